"""Members of a group: who takes which events, by key slot and by credit.

A key's events go to the member that rendezvous hashing over member ids names, so that all instances pick the same one
without talking; events without a key go to whoever has most credit. A member without credit (in events, or because of
the bytes it holds unacknowledged) has its keys' events *parked* and holds nobody else up.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fedbus.broker.stored import Stored
from fedbus.keys import assign_slots, slot_of

Share = tuple["Member", Sequence[int]]


class Member:
    """One consumer attached to this instance. ``held_bytes``: what it was sent and has not settled."""

    __slots__ = ("behind", "credit", "held_bytes", "max_bytes", "name", "session", "subscription")

    def __init__(self, name: str, session: bytes, subscription: int, credit: int, max_bytes: int) -> None:
        self.name = name
        self.session = session
        self.subscription = subscription
        self.credit = credit
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self.behind = 0  # portions parked for it: what is newer of its keys has to queue behind them

    @property
    def room(self) -> int:
        """How many events it can take now."""
        return self.credit if self.credit > 0 and self.held_bytes < self.max_bytes else 0


class Allotment(NamedTuple):
    """Who takes which places of a batch; what has to be parked for whom; what nobody at all has room for."""

    taken: list[Share]
    parked: list[Share]
    left: Sequence[int]


class Members:
    """The members of one group at one instance. ``sent``: events handed to them so far."""

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._slots: array[int] | None = None
        self.sent = 0

    def add(self, member: Member) -> None:
        """Join."""
        self._members.append(member)
        self._slots = None

    def remove(self, session: bytes, subscription: int) -> Member | None:
        """Leave; returns the member that left."""
        member = self.find(session, subscription)
        if member is not None:
            self._members.remove(member)
            self._slots = None
        return member

    def find(self, session: bytes, subscription: int) -> Member | None:
        """The member of that session and subscription number."""
        return next((m for m in self._members if m.session == session and m.subscription == subscription), None)

    @property
    def room(self) -> bool:
        """Whether anybody can take an event."""
        return any(member.room for member in self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def names(self) -> list[str]:
        """Member ids, sorted."""
        return sorted({member.name for member in self._members})

    def allot(self, stored: Stored, places: Sequence[int]) -> Allotment:
        """Who takes which of these places, as far as credit goes."""
        if len(self._members) > 1 and stored.batch.keyed:
            return self._by_key(stored, places)
        return self._to_idlest(places)

    def to_one(self, member: Member, places: Sequence[int]) -> tuple[list[Share], Sequence[int]]:
        """What this member takes of places that are all its own, and the rest."""
        taken = places[: member.room]
        member.credit -= len(taken)
        self.sent += len(taken)
        return [(member, taken)] if taken else [], places[len(taken) :]

    def _to_idlest(self, places: Sequence[int]) -> Allotment:
        taken: list[Share] = []
        while places and self.room:
            given, places = self.to_one(max(self._members, key=lambda m: m.room), places)
            taken += given
        return Allotment(taken, [], places)

    def _by_key(self, stored: Stored, places: Sequence[int]) -> Allotment:
        if self._slots is None:
            self._slots = assign_slots([member.name for member in self._members])
        keys, slots = stored.batch.keys, self._slots
        shares: list[list[int]] = [[] for _ in self._members]
        free: list[int] = []
        for place in places:
            key = keys[place]
            (shares[slots[slot_of(key)]] if key else free).append(place)
        taken: list[Share] = []
        parked: list[Share] = []
        for member, share in zip(self._members, shares, strict=True):
            given, rest = ([], share) if member.behind else self.to_one(member, share)
            taken += given
            if rest:
                parked.append((member, rest))
        others = self._to_idlest(free)
        return Allotment(taken + others.taken, parked, others.left)
