"""A parcel: one batch of one producer on its way to be durable, through retries, reroutes and splits.

It keeps its sequence for as long as it stays whole, so that an owner that had stored it says so instead of storing it
again. Keyed parcels whose slots went to several owners are split, and the parts get sequences of their own: the same
sequence with other events must never meet at one owner, which would take the second for a duplicate of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fedbus.batch import Batch
from fedbus.client.receipt import Claim, Receipt
from fedbus.errors import FedbusError, UnavailableError
from fedbus.position import Position


class Sender(Protocol):
    """Whose parcels these are."""

    name: str

    def next_sequence(self) -> int:
        """A sequence greater than all before."""

    def split(self, parcel: Parcel, parts: Sequence[Parcel]) -> None:
        """The parts replace the parcel."""

    def settled(self, parcel: Parcel, error: FedbusError | None) -> None:
        """The parcel is durable, or has failed for good."""


class Parcel:
    """A batch, who sent it, and what became of it so far."""

    __slots__ = (
        "attempts",
        "batch",
        "claims",
        "deadline_ns",
        "ledgers",
        "order",
        "sender",
        "sent_ns",
        "sequence",
        "size_bytes",
    )

    def __init__(
        self, sender: Sender, sequence: int, batch: Batch, claims: Sequence[Claim | None] | None, deadline_ns: int
    ) -> None:
        self.sender = sender
        self.sequence = sequence
        self.order = sequence  # its place among the producer's parcels; parts have that of the whole
        self.batch = batch
        self.claims = claims
        self.deadline_ns = deadline_ns
        self.size_bytes = len(batch.index_bytes) + len(batch.payload)
        self.ledgers: list[str] = []  # where a try without an answer may survive
        self.attempts = 0
        self.sent_ns = 0

    def split(self, owner_of: Callable[[int], str]) -> dict[str, Parcel]:
        """The parcel by owner; itself if there is but one. Parts keep the order of its events."""
        places: dict[str, list[int]] = {}
        for place, hashed in enumerate(self.batch.keys):
            places.setdefault(owner_of(hashed), []).append(place)
        if len(places) == 1:
            return dict.fromkeys(places, self)
        parts = {owner: self._part(chosen) for owner, chosen in places.items()}
        self.sender.split(self, list(parts.values()))
        return parts

    def _part(self, chosen: Sequence[int]) -> Parcel:
        claims = [self.claims[place] for place in chosen] if self.claims is not None else None
        part = Parcel(self.sender, self.sender.next_sequence(), self.batch.select(chosen), claims, self.deadline_ns)
        part.order = self.order
        part.ledgers, part.attempts = list(self.ledgers), self.attempts
        return part

    def stored(self, ledger: str, first_offset: int, instance: str, *, duplicate: bool) -> None:
        """It is durable from ``first_offset`` of ``ledger`` on."""
        for offset, claim in enumerate(self.claims or (), first_offset):
            if claim is not None:
                ticket, place, id = claim
                ticket.settle(place, Receipt(id, Position(ledger, offset), instance, duplicate))
        self.sender.settled(self, None)

    def failed(self, error: FedbusError) -> None:
        """It will not be tried again."""
        for claim in self.claims or ():
            if claim is not None:
                claim[0].settle(claim[1], error)
        self.sender.settled(self, error)

    def expired(self, instance: str) -> None:
        """Its deadline has passed while it was with ``instance``."""
        topics = ", ".join(self.batch.topics[:3])
        unknown = f"; whether they are stored is unknown (a try may survive in {', '.join(self.ledgers)})"
        self.failed(
            UnavailableError(
                f"{self.batch.count} event(s) of {topics}: {instance} did not take them in time"
                f"{unknown if self.ledgers else '; nothing of them is stored'}. Publish again with the same ids"
            )
        )

    def may_survive_in(self, ledger: str) -> None:
        """A try went there and was not answered."""
        if ledger and ledger not in self.ledgers:
            self.ledgers.append(ledger)
