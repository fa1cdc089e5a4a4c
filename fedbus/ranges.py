"""Sets of offsets, kept as disjoint half-open ranges: what has been acknowledged, scanned or settled."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

Range = tuple[int, int]

_FEW = 8  # up to so many, or so many times fewer than there are, ranges go one by one
_NO_MORE: Range = (1 << 63, (1 << 63) + 1)


class RangeSet:
    """A set of non-negative integers as sorted, disjoint, non-adjacent half-open ranges ``[start, end)``.

    Every operation is O(log n + touched) in the number n of ranges, so that acknowledging in order costs O(1).
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> int:
        """Add ``[start, end)``; returns how many of its values are new. An empty range changes nothing."""
        if start >= end:
            return 0
        starts, ends = self._starts, self._ends
        first = bisect_left(ends, start)  # first range that touches or lies beyond start
        last = bisect_right(starts, end)  # one past the last range that touches end
        if first < last:
            start = min(start, starts[first])
            end = max(end, ends[last - 1])
        known = sum(ends[first:last]) - sum(starts[first:last])
        starts[first:last] = [start]
        ends[first:last] = [end]
        return end - start - known

    def add_all(self, ranges: Sequence[Range]) -> None:
        """Add many ranges, sorted and disjoint: at once when they are not few beside those that are here."""
        if len(ranges) * _FEW < len(self._starts) or len(ranges) < _FEW:
            for start, end in ranges:
                self.add(start, end)
            return
        starts: list[int] = []
        ends: list[int] = []
        reached = -1
        for start, end in sorted([*zip(self._starts, self._ends, strict=True), *ranges]):
            if start > reached:
                starts.append(start)
                ends.append(end)
                reached = end
            elif end > reached:
                ends[-1] = reached = end
        self._starts, self._ends = starts, ends

    def take(self, ranges: Sequence[Range]) -> list[Range]:
        """Take many ranges, sorted and disjoint, out; returns what of them was in the set."""
        if len(ranges) * _FEW < len(self._starts) or len(ranges) < _FEW:
            found = [each for start, end in ranges for each in self.overlap(start, end)]
            for start, end in found:
                self.remove(start, end)
            return found
        found, left = [], []
        asked = iter([*ranges, _NO_MORE])
        low, high = next(asked)
        for start, end in zip(self._starts, self._ends, strict=True):
            at = start
            while high <= at:
                low, high = next(asked)
            while low < end:
                if at < low:
                    left.append((at, low))
                    at = low
                if high > end:
                    break
                found.append((at, high))
                at = high
                low, high = next(asked)
            if at < end:
                (found if low < end else left).append((at, end))
        self._starts = [start for start, _ in left]
        self._ends = [end for _, end in left]
        return found

    def remove(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out."""
        if start >= end:
            return
        starts, ends = self._starts, self._ends
        first = bisect_right(ends, start)
        last = bisect_left(starts, end)
        if first >= last:
            return
        kept = [(starts[first], start), (end, ends[last - 1])]
        kept = [(low, high) for low, high in kept if low < high]
        starts[first:last] = [low for low, _ in kept]
        ends[first:last] = [high for _, high in kept]

    def covers(self, start: int, end: int) -> bool:
        """Whether all of ``[start, end)`` is in the set."""
        at = bisect_right(self._starts, start) - 1
        return start >= end or (at >= 0 and self._ends[at] >= end)

    def __contains__(self, value: int) -> bool:
        return self.covers(value, value + 1)

    def gaps(self, start: int, end: int) -> list[Range]:
        """The parts of ``[start, end)`` that are not in the set, in order."""
        found: list[Range] = []
        at = bisect_right(self._ends, start)
        while start < end:
            low = self._starts[at] if at < len(self._starts) else end
            if start < low:
                found.append((start, min(low, end)))
            start = self._ends[at] if at < len(self._ends) else end
            at += 1
        return found

    def overlap(self, start: int, end: int) -> list[Range]:
        """The parts of ``[start, end)`` that are in the set, in order."""
        found: list[Range] = []
        at = bisect_right(self._ends, start)
        while at < len(self._starts) and self._starts[at] < end:
            found.append((max(start, self._starts[at]), min(end, self._ends[at])))
            at += 1
        return found

    def low_water(self, start: int = 0) -> int:
        """The first value at or after ``start`` that is not in the set."""
        at = bisect_right(self._starts, start) - 1
        return self._ends[at] if at >= 0 and self._ends[at] > start else start

    def total(self) -> int:
        """How many values are in the set."""
        return sum(self._ends) - sum(self._starts)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        """How many ranges (not values) the set is made of."""
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"


def range_around(ranges: RangeSet, value: int) -> Range | None:
    """The range of a set that holds this value, if one does."""
    at = bisect_right(ranges._starts, value) - 1  # noqa: SLF001 - O(log n), as one of its own
    return (ranges._starts[at], ranges._ends[at]) if at >= 0 and ranges._ends[at] > value else None  # noqa: SLF001
