"""What one group has dispatched and not settled: *in flight* with a deadline, *parked* for a member, or *waiting*.

In flight stands in the order of the deadlines, so that looking whether one has passed costs nothing; what is settled in
its middle is cleared away when that is at least half of it. Parked is what belongs to a member without credit (by key);
waiting is what anybody may take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import count

import msgspec

from fedbus.broker import protocol as p
from fedbus.broker.member import Member
from fedbus.broker.settlement import Settlement
from fedbus.ranges import Range, RangeSet

CLEAR_FROM = 64  # portions


class Portion(msgspec.Struct):
    """Some events of one stored batch. ``turn``: portions of a group are dispatched in this order."""

    ledger: str
    first_offset: int
    origin_ledger: str
    ranges: list[Range]
    delivery: int
    turn: int
    due_ns: int = 0  # the deadline in flight
    size_bytes: int = 0
    member: Member | None = None


class Deliveries:
    """One group's portions. ``redelivered``: events given back so far; ``waiting``: ready to go out, the oldest first."""

    def __init__(self, settlement: Settlement) -> None:
        self.redelivered = 0
        self.waiting: deque[Portion] = deque()
        self._settlement = settlement
        self._in_flight: deque[Portion] = deque()
        self._parked: dict[Member, deque[Portion]] = {}
        self._delayed: list[tuple[int, int, int, Portion]] = []  # heap by time
        self._ties = count()
        self._turns = 0
        self._clear_at = CLEAR_FROM
        self._stale = False

    def __iter__(self) -> Iterator[Portion]:
        yield from self._in_flight
        yield from self.waiting
        for parked in self._parked.values():
            yield from parked
        yield from (each[-1] for each in self._delayed)

    def next_turn(self) -> int:
        """The turn of a portion dispatched for the first time."""
        self._turns += 1
        return self._turns

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
        for member, parked in self._parked.items():
            member.behind = 0
            self.waiting.extend(parked)
        self._parked.clear()
        self.waiting = deque(sorted(self.waiting, key=lambda portion: portion.turn))

    def sent(self, portion: Portion) -> None:
        """In flight from now on; its deadline is not before those of the others."""
        self._in_flight.append(portion)
        if portion.member is not None:
            portion.member.held_bytes += portion.size_bytes

    def settled(self) -> None:
        """Something was acknowledged: what is done with needs no deadline any more."""
        in_flight = self._in_flight
        self._stale = True
        while in_flight and not self.unsettled(in_flight[0]):
            _release(in_flight.popleft())
        if len(in_flight) > self._clear_at:
            self._clear()

    def clear_for(self, member: Member) -> None:
        """If the member may hold no more bytes: see whether some of what it holds is settled."""
        if self._stale and member.held_bytes >= member.max_bytes:
            self._clear()

    def _clear(self) -> None:
        kept: deque[Portion] = deque()
        for portion in self._in_flight:
            if self.unsettled(portion):
                kept.append(portion)
            else:
                _release(portion)
        self._in_flight = kept
        self._stale = False
        self._clear_at = max(CLEAR_FROM, 2 * len(kept))

    def expire(self, now_ns: int) -> None:
        """Deliveries whose deadline has passed go back, ahead of what is newer; delayed ones become ready."""
        late: list[Portion] = []
        while self._in_flight and self._in_flight[0].due_ns <= now_ns:
            late.append(self._in_flight.popleft())
        self._give_up(late)
        while self._delayed and self._delayed[0][0] <= now_ns:
            self.waiting.appendleft(heappop(self._delayed)[-1])

    def leave(self, member: Member) -> None:
        """A member is gone: what it held goes back, ahead of what is newer."""
        self.regroup()
        held = [portion for portion in self._in_flight if portion.member is member]
        if held:
            self._in_flight = deque(portion for portion in self._in_flight if portion.member is not member)
            self._give_up(held)

    def give_back(self, settled: Iterable[p.Settled], due_ns: int) -> None:
        """Deliver these again, not before ``due_ns``."""
        for portion in self._extract(settled):
            if self._again(portion):
                heappush(self._delayed, (due_ns, portion.turn, next(self._ties), portion))

    def extend(self, settled: Iterable[p.Settled], due_ns: int) -> None:
        """Set the deadline of these anew."""
        for portion in self._extract(settled):
            portion.due_ns = due_ns
            self.sent(portion)

    def unsettled(self, portion: Portion) -> list[Range]:
        """Of its events those that are not settled."""
        return self._settlement.unsettled(portion.origin_ledger, portion.ranges)

    def _give_up(self, portions: list[Portion]) -> None:
        for portion in reversed(portions):
            _release(portion)
            if self._again(portion):
                self.waiting.appendleft(portion)

    def _again(self, portion: Portion) -> bool:
        portion.ranges = self.unsettled(portion)
        portion.delivery += 1
        portion.member = None
        self.redelivered += sum(end - start for start, end in portion.ranges)
        return bool(portion.ranges)

    def _extract(self, settled: Iterable[p.Settled]) -> list[Portion]:
        """Cut these ranges out of the deliveries in flight."""
        asked: dict[str, RangeSet] = {}
        for part in settled:
            ranges = asked.setdefault(part.ledger, RangeSet())
            for start, end in part.ranges:
                ranges.add(start, end)
        found: list[Portion] = []
        emptied = False
        for portion in self._in_flight:
            wanted = asked.get(portion.origin_ledger)
            cut = [each for low, high in portion.ranges for each in wanted.overlap(low, high)] if wanted else []
            if cut:
                piece = _cut(portion, cut)
                emptied = emptied or not portion.ranges
                found.append(piece)
        if emptied:
            self._in_flight = deque(portion for portion in self._in_flight if portion.ranges)
        return found


def _cut(portion: Portion, cut: list[Range]) -> Portion:
    """Take these ranges out of the portion: the piece, held by nobody's account yet."""
    taken = RangeSet(cut)
    before = sum(end - start for start, end in portion.ranges)
    size_bytes = portion.size_bytes * taken.total() // before
    piece = msgspec.structs.replace(portion, ranges=cut, size_bytes=size_bytes)
    portion.ranges = [gap for start, end in portion.ranges for gap in taken.gaps(start, end)]
    portion.size_bytes -= size_bytes
    if portion.member is not None:
        portion.member.held_bytes -= size_bytes
    return piece


def _release(portion: Portion) -> None:
    if portion.member is not None:
        portion.member.held_bytes -= portion.size_bytes
