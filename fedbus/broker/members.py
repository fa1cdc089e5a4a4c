"""Members of a group: who takes which events, by key slot and by credit.

A key's events go to the member that rendezvous hashing over member ids names, so that all instances pick the same one
without talking; events without a key go to whoever has most room. A member without room (in credit, or because of the
events and bytes it holds unsettled) has its keys' events *parked* and holds nobody else up. One that let a deadline
pass and gave no sign of itself since is *silent*: the others take its keys until it settles something.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fedbus.broker.member import Member
from fedbus.broker.member_slots import MemberSlots, Share
from fedbus.broker.stored import Stored

_NOBODY: Sequence[int] = ()


class Allotment(NamedTuple):
    """Who takes which places; what is parked for whom; what waits for its slot; what nobody at all has room for."""

    taken: list[Share]
    parked: list[Share]
    barred: Sequence[int]
    left: Sequence[int]


class Members:
    """The members of one group at one instance.

    ``sent``: events handed to them so far; ``changes``: how often it has changed who takes what; ``slots``: of those
    that take events.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.changes = 0
        self._members: list[Member] = []
        self._taking: list[Member] = []  # those that are not silent; all if all are
        self.slots = MemberSlots(self._taking)

    def add(self, member: Member) -> None:
        """Join."""
        self._members.append(member)
        self._changed()

    def remove(self, session: bytes, subscription: int) -> Member | None:
        """Leave; returns the member that left."""
        member = self.find(session, subscription)
        if member is not None:
            self._members.remove(member)
            self._changed()
        return member

    def silence(self, member: Member, *, silent: bool) -> None:
        """It does (not) answer."""
        if member.silent != silent:
            member.silent = silent
            self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self._taking = [member for member in self._members if not member.silent] or self._members
        self.slots = MemberSlots(self._taking)

    def find(self, session: bytes, subscription: int) -> Member | None:
        """The member of that session and subscription number."""
        return next((m for m in self._members if m.session == session and m.subscription == subscription), None)

    def named(self, name: str) -> Member | None:
        """The member of that name."""
        return next((member for member in self._members if member.name == name), None)

    @property
    def room(self) -> bool:
        """Whether anybody can take an event."""
        return any(member.room for member in self._taking)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def names(self) -> list[str]:
        """Member ids, sorted."""
        return sorted({member.name for member in self._members})

    def allot(self, stored: Stored, places: Sequence[int], barred: int) -> Allotment:
        """Who takes which of these places, as far as credit goes; events of ``barred`` slots nobody does."""
        if stored.batch.keyed and (len(self._taking) > 1 or barred):
            return self._by_key(stored, places, barred)
        taken, left = self._to_idlest(places)
        return Allotment(taken, [], _NOBODY, left)

    def to_one(self, member: Member, places: Sequence[int]) -> tuple[list[Share], Sequence[int]]:
        """What this member takes of places that are all its own, and the rest."""
        room = member.room
        taken = places[:room] if room < len(places) else places
        if not taken:
            return [], places
        member.credit -= len(taken)
        member.held_events += len(taken)
        self.sent += len(taken)
        return [(member, taken)], places[len(taken) :]

    def _to_idlest(self, places: Sequence[int]) -> tuple[list[Share], Sequence[int]]:
        taken: list[Share] = []
        while places and self.room:
            given, places = self.to_one(max(self._taking, key=lambda m: m.room), places)
            taken += given
        return taken, places

    def _by_key(self, stored: Stored, places: Sequence[int], barred: int) -> Allotment:
        shares, held, free = self.slots.split(stored, places, barred)
        taken: list[Share] = []
        parked: list[Share] = []
        for member, share in shares:
            given, rest = ([], share) if member.behind else self.to_one(member, share)
            taken += given
            if rest:
                parked.append((member, rest))
        others, left = self._to_idlest(free)
        return Allotment(taken + others, parked, held, left)
