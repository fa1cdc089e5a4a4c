"""Deliveries in flight: portions of batches that members hold, each with a deadline.

They stand in the order of their deadlines, so that looking whether one has passed costs nothing. What is settled at the
front goes at once, what is settled in the middle when that may be half of all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

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


class InFlight:
    """One group's portions in flight; keeps account of the bytes their members hold."""

    def __init__(self, settlement: Settlement) -> None:
        self._settlement = settlement
        self._portions: deque[Portion] = deque()
        self._clear_at = CLEAR_FROM
        self._stale = False  # something was settled since all were looked at

    def __iter__(self) -> Iterator[Portion]:
        return iter(self._portions)

    def __len__(self) -> int:
        return len(self._portions)

    def add(self, portion: Portion) -> None:
        """In flight from now on; its deadline is not before those of the others."""
        self._portions.append(portion)
        if portion.member is not None:
            portion.member.held_bytes += portion.size_bytes

    def settled(self) -> None:
        """Something was acknowledged: what is done with needs no deadline any more."""
        self._stale = True
        while self._portions and not self._open(self._portions[0]):
            _release(self._portions.popleft())
        if len(self._portions) > self._clear_at:
            self._clear()

    def clear_for(self, member: Member) -> None:
        """If the member may hold no more bytes: see whether some of what it holds is settled."""
        if self._stale and member.held_bytes >= member.max_bytes:
            self._clear()

    def _clear(self) -> None:
        kept: deque[Portion] = deque()
        for portion in self._portions:
            if self._open(portion):
                kept.append(portion)
            else:
                _release(portion)
        self._portions = kept
        self._stale = False
        self._clear_at = max(CLEAR_FROM, 2 * len(kept))

    def _open(self, portion: Portion) -> bool:
        return bool(self._settlement.unsettled(portion.origin_ledger, portion.ranges))

    def take_due(self, now_ns: int) -> list[Portion]:
        """Those whose deadline has passed, no longer in flight."""
        due: list[Portion] = []
        while self._portions and self._portions[0].due_ns <= now_ns:
            due.append(self._portions.popleft())
            _release(due[-1])
        return due

    def take_of(self, member: Member) -> list[Portion]:
        """Those that a member holds, no longer in flight."""
        held = [portion for portion in self._portions if portion.member is member]
        if held:
            self._portions = deque(portion for portion in self._portions if portion.member is not member)
            for portion in held:
                _release(portion)
        return held

    def cut(self, settled: Iterable[p.Settled]) -> list[Portion]:
        """These ranges as portions of their own, no longer in flight."""
        asked: dict[str, RangeSet] = {}
        for part in settled:
            ranges = asked.setdefault(part.ledger, RangeSet())
            for start, end in part.ranges:
                ranges.add(start, end)
        found: list[Portion] = []
        for portion in self._portions:
            wanted = asked.get(portion.origin_ledger)
            cut = [each for low, high in portion.ranges for each in wanted.overlap(low, high)] if wanted else []
            if cut:
                found.append(_cut(portion, cut))
        if found:
            self._portions = deque(portion for portion in self._portions if portion.ranges)
        return found


def _cut(portion: Portion, cut: list[Range]) -> Portion:
    taken = RangeSet(cut)
    before = sum(end - start for start, end in portion.ranges)
    size_bytes = portion.size_bytes * taken.total() // before
    piece = msgspec.structs.replace(portion, ranges=cut, size_bytes=size_bytes)
    portion.ranges = [gap for start, end in portion.ranges for gap in taken.gaps(start, end)]
    portion.size_bytes -= size_bytes
    _release(piece)
    return piece


def _release(portion: Portion) -> None:
    if portion.member is not None:
        portion.member.held_bytes -= portion.size_bytes
