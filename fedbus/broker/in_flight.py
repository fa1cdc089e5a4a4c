"""Deliveries in flight: portions of batches that members hold, each with a deadline.

They stand in the order of their deadlines, so that looking whether one has passed costs nothing. What is settled at the
front goes at once, what is settled in the middle when that may be half of all, or when somebody has to know exactly: a
member that may hold no more, a key slot that waits for its old member.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from fedbus.broker import protocol as p
from fedbus.broker.member import Member
from fedbus.broker.settlement import Settlement
from fedbus.broker.slot_mask import mask_of_keys
from fedbus.broker.stored import Stored
from fedbus.ranges import Range, RangeSet

CLEAR_FROM = 64  # portions
_UNKNOWN = -1


class Portion(msgspec.Struct):
    """Some events of one stored batch. ``turn``: portions of a group are dispatched in this order.

    ``offsets`` and ``keys`` are those of the whole batch (``keys`` empty: no event has one). ``sent``: its number in
    flight, which pieces of it share. ``reason``: why it is not delivered again.
    """

    ledger: str
    first_offset: int
    origin_ledger: str
    ranges: list[Range]
    delivery: int
    turn: int
    offsets: Any = ()
    keys: Any = ()
    due_ns: int = 0  # the deadline in flight
    size_bytes: int = 0
    member: Member | None = None
    sent: int = 0
    reason: str = ""
    mask: int = _UNKNOWN

    @classmethod
    def of(cls, stored: Stored, places: Sequence[int], turn: int) -> Portion:
        """These places of a batch, to be delivered for the first time."""
        keys = stored.batch.keys if stored.batch.keyed else ()
        ranges = stored.ranges(places)
        return cls(stored.ledger, stored.first_offset, stored.origin_ledger, ranges, 1, turn, stored.offsets, keys)

    def of_ranges(self, ranges: list[Range]) -> Portion:
        """Only these of its events."""
        return msgspec.structs.replace(self, ranges=ranges, mask=_UNKNOWN)

    def keep(self, ranges: list[Range]) -> None:
        """The others are done with."""
        if ranges != self.ranges:
            self.ranges = ranges
            self.mask = _UNKNOWN

    @property
    def count(self) -> int:
        """How many events."""
        return sum(end - start for start, end in self.ranges)

    def slots(self) -> int:
        """The key slots of its events, as a set."""
        if not self.keys:
            return 0
        if self.mask == _UNKNOWN:
            offsets, keys = self.offsets, self.keys
            spans = [(bisect_left(offsets, start), bisect_left(offsets, end)) for start, end in self.ranges]
            self.mask = mask_of_keys(key for low, high in spans for key in keys[low:high])
        return self.mask


class InFlight:
    """One group's portions in flight; keeps account of the events and bytes their members hold."""

    def __init__(self, settlement: Settlement) -> None:
        self.changes = 0  # how often something left
        self.numbers = 0  # of the newest portion
        self._settlement = settlement
        self._portions: deque[Portion] = deque()
        self._clear_at = CLEAR_FROM
        self._stale = False  # something was settled since all were looked at

    def __iter__(self) -> Iterator[Portion]:
        return iter(self._portions)

    def __len__(self) -> int:
        return len(self._portions)

    def send(self, portion: Portion) -> None:
        """In flight from now on; its member's room was taken before, its deadline is not before those of the others."""
        self.numbers += 1
        portion.sent = self.numbers
        self._add(portion)

    def _add(self, portion: Portion) -> None:
        self._portions.append(portion)
        assert portion.member is not None
        portion.member.held_bytes += portion.size_bytes

    def settled(self) -> None:
        """Something was acknowledged: what is done with needs no deadline any more."""
        self._stale = True
        self.changes += 1
        portions, is_settled = self._portions, self._settlement.is_settled
        while portions and is_settled(portions[0].origin_ledger, portions[0].ranges):
            _release(portions.popleft())
        if len(self._portions) > self._clear_at:
            self.clear()

    def clear_for(self, member: Member) -> None:
        """If the member may hold no more: see whether some of what it holds is settled."""
        if self._stale and member.full:
            self.clear()

    def clear(self) -> None:
        """Let go of everything that is settled."""
        if not self._stale:
            return
        kept: deque[Portion] = deque()
        for portion in self._portions:
            left = self._open(portion)
            if left != portion.ranges:
                _release(_cut(portion, portion.ranges if not left else _without(portion.ranges, left)))
            if left:
                kept.append(portion)
        self._portions = kept
        self._stale = False
        self._clear_at = max(CLEAR_FROM, 2 * len(kept))

    def _open(self, portion: Portion) -> list[Range]:
        return self._settlement.unsettled(portion.origin_ledger, portion.ranges)

    def take_due(self, now_ns: int) -> list[Portion]:
        """Those whose deadline has passed, no longer in flight."""
        due: list[Portion] = []
        while self._portions and self._portions[0].due_ns <= now_ns:
            due.append(self._portions.popleft())
            _release(due[-1])
        self.changes += bool(due)
        return due

    def take_of(self, member: Member) -> list[Portion]:
        """Those that a member holds, no longer in flight."""
        return self._take([portion for portion in self._portions if portion.member is member])

    def take_from(self, ledger: str) -> list[Portion]:
        """Those of one local ledger, no longer in flight."""
        return self._take([portion for portion in self._portions if portion.ledger == ledger])

    def _take(self, taken: list[Portion]) -> list[Portion]:
        if taken:
            numbers = {portion.sent for portion in taken}
            self._portions = deque(portion for portion in self._portions if portion.sent not in numbers)
            for portion in taken:
                _release(portion)
            self.changes += 1
        return taken

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
                _release(found[-1])
        if found:
            self._portions = deque(portion for portion in self._portions if portion.ranges)
            self.changes += 1
        return found

    def extend(self, settled: Iterable[p.Settled], due_ns: int) -> None:
        """Set the deadline of these anew; it is the latest of all."""
        for portion in self.cut(settled):
            portion.due_ns = due_ns
            assert portion.member is not None
            portion.member.held_events += portion.count
            self._add(portion)


def _without(ranges: list[Range], taken: list[Range]) -> list[Range]:
    rest = RangeSet(taken)
    return [gap for start, end in ranges for gap in rest.gaps(start, end)]


def _cut(portion: Portion, cut: list[Range]) -> Portion:
    """The events at these ranges, which the portion then no longer has."""
    count = portion.count
    piece = portion.of_ranges(cut)
    piece.size_bytes = portion.size_bytes * piece.count // count
    portion.keep(_without(portion.ranges, cut))
    portion.size_bytes -= piece.size_bytes
    return piece


def _release(portion: Portion) -> None:
    if portion.member is not None:
        portion.member.held_bytes -= portion.size_bytes
        portion.member.held_events -= portion.count
