"""A parcel: one batch of one producer on its way to be durable, through retries, reroutes and splits.

It keeps its sequence for as long as it stays whole, so that an owner that had stored it says so instead of storing it
again. Keyed parcels whose slots went to several owners are split, and the parts get sequences of their own: the same
sequence with other events must never meet at one owner, which would take the second for a duplicate of the first. A
part goes on naming where the whole may survive, under the sequence of the whole, so that nothing of it counts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from fedbus.batch import Batch
from fedbus.broker.protocol import FirstCopy, Published, Tried
from fedbus.client.receipt import Claim, Receipt
from fedbus.errors import FedbusError, OverloadedError, UnavailableError
from fedbus.keys import slot_of
from fedbus.position import Position


class Sender(Protocol):
    """Whose parcels these are. ``idempotent``: withhold later tries until it is certain that no earlier one counts."""

    name: str
    idempotent: bool

    def next_sequence(self) -> int:
        """A sequence greater than all before."""

    def split(self, parcel: Parcel, parts: Sequence[Parcel]) -> None:
        """The parts replace the parcel."""

    def settled(self, parcel: Parcel, error: FedbusError | None) -> None:
        """The parcel is durable, or has failed for good."""


class Parcel:
    """A batch, who sent it, and what became of it so far.

    ``attempt`` grows whenever it goes to another ledger than before, which is ``last_ledger``; ``tried``: where a try
    without an answer may survive; ``refusal``: what it was told last, until it may go again; ``generation``: that of
    the routing when it was sent; ``geo``: its topics count only once a second region has them, so that its answer says
    nothing about an instance; ``not_before_ns``: a refused one of these is not sent again earlier.
    """

    __slots__ = (
        "attempt",
        "batch",
        "claims",
        "deadline_ns",
        "generation",
        "geo",
        "last_ledger",
        "not_before_ns",
        "order",
        "places",
        "refusal",
        "refusals",
        "sender",
        "sent_ns",
        "sequence",
        "size_bytes",
        "slots",
        "tried",
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
        self.tried: list[Tried] = []
        self.attempt = 0
        self.last_ledger = ""
        self.places: dict[int, Sequence[int]] = {}  # of a part: by the sequence of a whole, its events' places there
        self.refusals = 0
        self.refusal: FedbusError | None = None
        self.sent_ns = 0
        self.generation = -1
        self.slots: frozenset[int] | None = None
        self.geo = False
        self.not_before_ns = 0

    def touches(self, other: Parcel) -> bool:
        """Whether both hold events of one key slot."""
        return not self.key_slots().isdisjoint(other.key_slots())

    def key_slots(self) -> frozenset[int]:
        """The key slots of its events."""
        if self.slots is None:
            self.slots = frozenset(slot_of(hashed) for hashed in set(self.batch.keys) if hashed)
        return self.slots

    def goes_to(self, ledger: str) -> None:
        """It is about to be sent to the instance that writes this ledger."""
        if ledger != self.last_ledger:
            self.attempt += 1
            self.last_ledger = ledger

    def tried_besides(self, ledger: str) -> list[Tried]:
        """Where tries may survive that whoever writes this ledger does not recognise by the sequence alone."""
        return [tried for tried in self.tried if tried.ledger != ledger or tried.sequence != self.sequence]

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
        part.order, part.geo = self.order, self.geo
        part.tried, part.attempt, part.refusals, part.refusal = (
            list(self.tried),
            self.attempt,
            self.refusals,
            self.refusal,
        )
        part.places = {sequence: [of[place] for place in chosen] for sequence, of in self.places.items()}
        part.places[self.sequence] = chosen
        return part

    def stored(self, published: Published, instance: str) -> None:
        """It is durable."""
        if self.claims is not None:
            offsets = self._offsets(published)
            for (ledger, offset, duplicate), claim in zip(offsets, self.claims, strict=True):
                if claim is not None:
                    ticket, place, id = claim
                    ticket.settle(place, Receipt(id, Position(ledger, offset), instance, duplicate))
        self.sender.settled(self, None)

    def _offsets(self, published: Published) -> Iterator[tuple[str, int, bool]]:
        """(ledger, offset, whether it had been stored before) of each event."""
        first, ledger, duplicate = published.first_offset, published.ledger, published.duplicate
        whole = self.places.get(published.as_sequence)
        if whole is not None:
            yield from ((ledger, first + place, True) for place in whole)
            return
        copies: dict[int, FirstCopy] = {copy.place: copy for copy in published.first_copies}
        offset = first
        for place in range(self.batch.count):
            if (copy := copies.get(place)) is not None:
                yield copy.ledger, copy.offset, True
            else:
                yield ledger, offset, duplicate
                offset += 1

    def failed(self, error: FedbusError) -> None:
        """It will not be tried again."""
        for claim in self.claims or ():
            if claim is not None:
                claim[0].settle(claim[1], error)
        self.sender.settled(self, error)

    def expired(self, instance: str) -> None:
        """Its deadline has passed while it was with ``instance``."""
        topics = ", ".join(self.batch.topics[:3])
        events = f"{self.batch.count} event(s) of {topics}"
        if self.tried:
            ledgers = ", ".join(sorted({tried.ledger for tried in self.tried}))
            error: FedbusError = UnavailableError(
                f"{events}: {instance} did not take them in time; whether they are stored is unknown (a try may "
                f"survive in {ledgers}). Publish again with the same ids"
            )
        elif isinstance(self.refusal, OverloadedError):
            error = OverloadedError(
                f"{events}: {instance} was overloaded all the time; nothing of them is stored. Publish again later: "
                f"{self.refusal.detail}",
                retry_after_ms=self.refusal.retry_after_ms,
            )
        else:
            known = self.refusal if self.geo else None
            why = f" ({known.detail})" if known is not None else ""
            error = UnavailableError(
                f"{events}: {instance} did not take them in time; nothing of them is stored{why}. Publish again with "
                "the same ids",
                retry_after_ms=known.retry_after_ms if known is not None else 0,
            )
        self.failed(error)

    def may_survive_in(self, ledger: str) -> None:
        """A try went there and was not answered."""
        tried = Tried(ledger, self.sequence)
        if ledger and tried not in self.tried:
            self.tried.append(tried)
