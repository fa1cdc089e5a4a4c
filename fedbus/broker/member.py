"""Members of a group: who takes which events, by key slot and by credit.

A key's events go to the member that rendezvous hashing over member ids names, so that all instances pick the same one without
talking; events without a key go to whoever has most credit.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from fedbus.broker.stored import Stored
from fedbus.keys import assign_slots, slot_of


class Member:
    """One consumer attached to this instance."""

    __slots__ = ("credit", "name", "session", "subscription")

    def __init__(self, name: str, session: bytes, subscription: int, credit: int) -> None:
        self.name = name
        self.session = session
        self.subscription = subscription
        self.credit = credit


class Members:
    """The members of one group at one instance. ``sent``: events handed to them so far."""

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._slots: array[int] | None = None
        self.sent = 0

    def add(self, member: Member) -> None:
        """Join (again: the same session and subscription number replaces itself)."""
        self.remove(member.session, member.subscription)
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
    def credit(self) -> bool:
        """Whether anybody can take an event."""
        return any(member.credit > 0 for member in self._members)

    def __len__(self) -> int:
        return len(self._members)

    def names(self) -> list[str]:
        """Member ids, sorted."""
        return sorted({member.name for member in self._members})

    def allot(self, stored: Stored, places: Sequence[int]) -> tuple[list[tuple[Member, Sequence[int]]], Sequence[int]]:
        """Who takes which places, as far as credit goes, and the places left over (in order)."""
        if not places or not self._members:
            return [], places
        if len(self._members) == 1:
            return self._to_one(self._members[0], places)
        if not stored.batch.keyed:
            return self._to_idlest(places)
        return self._by_key(stored, places)

    def _to_one(
        self, member: Member, places: Sequence[int]
    ) -> tuple[list[tuple[Member, Sequence[int]]], Sequence[int]]:
        taken = places[: max(0, member.credit)]
        member.credit -= len(taken)
        self.sent += len(taken)
        return [(member, taken)] if taken else [], places[len(taken) :]

    def _to_idlest(self, places: Sequence[int]) -> tuple[list[tuple[Member, Sequence[int]]], Sequence[int]]:
        allotted: list[tuple[Member, Sequence[int]]] = []
        while places and self.credit:
            given, places = self._to_one(max(self._members, key=lambda m: m.credit), places)
            allotted += given
        return allotted, places

    def _by_key(
        self, stored: Stored, places: Sequence[int]
    ) -> tuple[list[tuple[Member, Sequence[int]]], Sequence[int]]:
        if self._slots is None:
            self._slots = assign_slots([member.name for member in self._members])
        keys, slots = stored.batch.keys, self._slots
        shares: list[list[int]] = [[] for _ in self._members]
        free: list[int] = []
        for place in places:
            key = keys[place]
            (shares[slots[slot_of(key)]] if key else free).append(place)
        allotted: list[tuple[Member, Sequence[int]]] = []
        left: list[int] = []
        for member, share in zip(self._members, shares, strict=True):
            given, rest = self._to_one(member, share)
            allotted += given
            left += rest
        given, rest = self._to_idlest(free)
        return allotted + given, sorted([*left, *rest])
