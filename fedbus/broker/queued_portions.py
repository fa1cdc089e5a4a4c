"""A group's portions that are to be delivered as soon as they can be, by what they wait for.

*Waiting* is what anybody may take; *parked* belongs (by key) to a member without room; *barred* waits until its key
slot is free (``broker/barrier.py``); *withheld* is of a batch that does not count yet (``broker/hidden.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from fedbus.broker.hidden import Hidden
from fedbus.broker.in_flight import Portion
from fedbus.broker.member import Member
from fedbus.broker.settlement import Settlement
from fedbus.broker.withheld_portions import WithheldPortions


class QueuedPortions:
    """One group's. ``waiting``: ready for whoever has credit."""

    def __init__(self, settlement: Settlement) -> None:
        self.waiting: deque[Portion] = deque()
        self.withheld = WithheldPortions(settlement)
        self._parked: dict[Member, deque[Portion]] = {}
        self._barred: list[Portion] = []

    def __iter__(self) -> Iterator[Portion]:
        yield from self.waiting
        for parked in self._parked.values():
            yield from parked
        yield from self._barred
        yield from self.withheld

    def park(self, member: Member, portion: Portion, *, front: bool = False) -> None:
        """Keep for this member until it has credit, behind (or ahead of) what is kept for it already."""
        parked = self._parked.setdefault(member, deque())
        (parked.appendleft if front else parked.append)(portion)
        member.behind = len(parked)

    def unpark(self, member: Member) -> Portion | None:
        """The oldest portion kept for this member, no longer kept."""
        parked = self._parked.get(member)
        if not parked:
            return None
        portion = parked.popleft()
        member.behind = len(parked)
        return portion

    def bar(self, portion: Portion) -> None:
        """Keep until its key slots are free."""
        self._barred.append(portion)

    def unbar(self, bars: Callable[[Portion], int]) -> None:
        """What is kept and has (by ``bars``) a slot that is free is ready, in its old order."""
        kept: list[Portion] = []
        ready: list[Portion] = []
        for portion in self._barred:
            (ready if portion.slots() & ~bars(portion) else kept).append(portion)
        if ready:
            self._barred = kept
            self.ready(ready)

    def barred_slots(self) -> int:
        """The slots for which something is kept."""
        found = 0
        for portion in self._barred:
            found |= portion.slots()
        return found

    def release(self, hidden: Hidden) -> None:
        """Batches were resolved: what was released is ready, with what waited behind it."""
        self.ready(self.withheld.take_resolved(hidden))
        self.unbar(lambda portion: self.withheld.slots_before(portion.turn))

    def regroup(self) -> None:
        """The members have changed: what was kept for one of them, or for a slot, may belong to another."""
        again = self._barred
        self._barred = []
        for member, parked in self._parked.items():
            member.behind = 0
            again.extend(parked)
        self._parked.clear()
        if again:
            self.ready(again)

    def ready(self, portions: Iterable[Portion]) -> None:
        """Whoever has credit may take them, in their old order."""
        self.waiting.extend(portions)
        self.waiting = deque(sorted(self.waiting, key=lambda portion: (portion.turn, portion.ranges[:1])))

    def drop(self, ledger: str) -> None:
        """Forget the portions of this local ledger."""
        self.waiting = deque(portion for portion in self.waiting if portion.ledger != ledger)
        self._barred = [portion for portion in self._barred if portion.ledger != ledger]
        self.withheld.drop(ledger)
        for member, parked in self._parked.items():
            self._parked[member] = kept = deque(portion for portion in parked if portion.ledger != ledger)
            member.behind = len(kept)
