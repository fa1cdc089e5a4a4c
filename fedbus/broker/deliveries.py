"""What one group has dispatched and not settled: *in flight*, *waiting*, *delayed* by a nack, or *parked* for a member.

Parked is what belongs (by key) to a member without credit; waiting is what anybody may take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import count

from fedbus.broker import protocol as p
from fedbus.broker.in_flight import InFlight, Portion
from fedbus.broker.member import Member
from fedbus.broker.settlement import Settlement
from fedbus.ranges import Range


class Deliveries:
    """One group's portions. ``redelivered``: events given back so far; ``waiting``: ready for whoever has credit."""

    def __init__(self, settlement: Settlement) -> None:
        self.redelivered = 0
        self.waiting: deque[Portion] = deque()
        self.in_flight = InFlight(settlement)
        self._settlement = settlement
        self._parked: dict[Member, deque[Portion]] = {}
        self._delayed: list[tuple[int, int, Portion]] = []  # heap by time
        self._ties = count()
        self._turns = count()

    def __iter__(self) -> Iterator[Portion]:
        yield from self.in_flight
        yield from self.waiting
        for parked in self._parked.values():
            yield from parked
        for _, _, portion in self._delayed:
            yield portion

    def next_turn(self) -> int:
        """The turn of a portion dispatched for the first time."""
        return next(self._turns)

    def unsettled(self, portion: Portion) -> list[Range]:
        """Of its events those that are not settled."""
        return self._settlement.unsettled(portion.origin_ledger, portion.ranges)

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

    def regroup(self) -> None:
        """The members have changed: what was kept for one of them may belong to another."""
        if self._parked:
            for member, parked in self._parked.items():
                member.behind = 0
                self.waiting.extend(parked)
            self._parked.clear()
            self.waiting = deque(sorted(self.waiting, key=lambda portion: portion.turn))

    def expire(self, now_ns: int) -> None:
        """Deliveries whose deadline has passed go back, ahead of what is newer; delayed ones become ready."""
        self._give_up(self.in_flight.take_due(now_ns))
        while self._delayed and self._delayed[0][0] <= now_ns:
            self.waiting.appendleft(heappop(self._delayed)[-1])

    def leave(self, member: Member) -> None:
        """A member is gone: what it held goes back, ahead of what is newer."""
        self.regroup()
        self._give_up(self.in_flight.take_of(member))

    def give_back(self, settled: Iterable[p.Settled], due_ns: int) -> None:
        """Deliver these again, not before ``due_ns``."""
        for portion in self.in_flight.cut(settled):
            if self._again(portion):
                heappush(self._delayed, (due_ns, next(self._ties), portion))

    def extend(self, settled: Iterable[p.Settled], due_ns: int) -> None:
        """Set the deadline of these anew; it is the latest of all."""
        for portion in self.in_flight.cut(settled):
            portion.due_ns = due_ns
            self.in_flight.add(portion)

    def _give_up(self, portions: list[Portion]) -> None:
        for portion in reversed(portions):
            if self._again(portion):
                self.waiting.appendleft(portion)

    def _again(self, portion: Portion) -> bool:
        portion.ranges = self.unsettled(portion)
        portion.delivery += 1
        portion.member = None
        self.redelivered += sum(end - start for start, end in portion.ranges)
        return bool(portion.ranges)
