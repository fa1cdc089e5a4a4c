"""The usual load: what a region would have taken in without its triggers, told from the slots around their windows.

Needs no forecaster, so that triggers are believed also when there is none, and knows no burst twice: a profile of the
past already contains those of every day.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
#: The level beside a window is the median over so long …
_LEVEL_S = 15 * MINUTE_S
#: … found within so long, else the lower part of what is there stands in.
_SEARCHED_S = 6 * HOUR_S
#: The course of the day is taken from these days before, and believed to this extent.
_LIKE_DAYS, _LARGEST_COURSE = (1, 7), 3.0
#: More in a slot is a broken counter, not a load.
_MOST_EVENTS = 1e15


class LoadSlots(Protocol):
    """A load history: events per slot of ``slot_s`` seconds, NaN where not measured; LoadHistory is one.

    ``first_slot`` counts from the epoch.
    """

    @property
    def slot_s(self) -> int:
        """Length of a slot in seconds."""
        ...

    @property
    def first_slot(self) -> int:
        """Number of the oldest slot."""
        ...

    @property
    def events(self) -> Sequence[float]:
        """Events per slot, oldest first."""
        ...


class Past:
    """A history up to ``end_slot`` as rates; what is not measured, absurd or later is NaN."""

    def __init__(self, history: LoadSlots, end_slot: int) -> None:
        self.slot_s = history.slot_s
        self.first_slot = history.first_slot
        self.end_slot = max(self.first_slot, min(end_slot, self.first_slot + len(history.events)))
        self._events = history.events

    def slots(self, seconds: float) -> int:
        """How many slots that is, at least one."""
        return max(1, math.ceil(seconds / self.slot_s))

    def rates(self, start: int, end: int) -> list[float]:
        """Events/s of the slots [start, end)."""
        low, high = max(start, self.first_slot), min(end, self.end_slot)
        if low >= high:
            return [math.nan] * max(0, end - start)
        first = self.first_slot
        known = [
            value / self.slot_s if 0 <= value <= _MOST_EVENTS else math.nan
            for value in map(float, self._events[low - first : high - first])
        ]
        return [math.nan] * (low - start) + known + [math.nan] * (end - high)


class Busy:
    """Slots that tell nothing of the usual load, given as windows (start and end slot)."""

    def __init__(self, windows: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(windows):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def __contains__(self, slot: int) -> bool:
        index = bisect_right(self._starts, slot) - 1
        return index >= 0 and slot < self._ends[index]


class Usual:
    """The usual load of a past in which the ``busy`` slots tell nothing of it."""

    def __init__(self, past: Past, busy: Busy) -> None:
        self._past = past
        self._busy = busy

    def before(self, slot: int) -> float | None:
        """The level just before the slot, or before the busy time in which that lies."""
        return self._level(slot, -1)

    def path(self, start: int, end: int) -> list[float] | None:
        """The usual rates of past slots: bridged from the level before to that after; None if both are unknown."""
        left, right = self._level(start, -1), self._level(end, 1)
        if left is None and right is None:
            return None
        # Where one is not known, the other stands for both.
        low, high = (left if left is not None else right), (right if right is not None else left)
        assert low is not None
        assert high is not None
        length = max(1, end - start)
        return [low + (high - low) * (index + 0.5) / length for index in range(end - start)]

    def ahead(self, start: int, end: int, known_until: int) -> list[float] | None:
        """The usual rates of slots to come: the level before them, on the course that the days before took.

        The larger of the courses and the bare level counts: what is wrong should cost instances, not load.
        """
        level = self.before(min(start, known_until))
        if level is None:
            return None
        step = self._past.slots(10 * MINUTE_S)
        courses = [self._course(min(start, known_until), slot) for slot in range(start, end + step, step)]
        path = []
        for slot in range(start, end):
            index, part = divmod(slot - start, step)
            share = part / step
            path.append(level * ((1 - share) * courses[index] + share * courses[index + 1]))
        return path

    def noise(self, slot: int) -> float:
        """Standard deviation of the logarithm from slot to slot before ``slot``, robustly; 0 where it is not known."""
        values = self._free(slot, -1, self._past.slots(HOUR_S))
        unit = 1 / self._past.slot_s
        steps = [abs(math.log((a + unit) / (b + unit))) for a, b in pairwise(values)]
        return 1.4826 * median(steps) / math.sqrt(2) if steps else 0.0

    def _course(self, known: int, slot: int) -> float:
        day = self._past.slots(DAY_S)
        found = [1.0]
        for days in _LIKE_DAYS:
            then, later = self._around(known - days * day), self._around(slot - days * day)
            if then and later:
                found.append(min(_LARGEST_COURSE, later / then))
        return max(found)

    def _around(self, slot: int) -> float | None:
        if slot < self._past.first_slot:
            return None
        path = self.path(slot, slot + 1)
        return path[0] if path else None

    def _level(self, slot: int, direction: int) -> float | None:
        wanted = self._past.slots(_LEVEL_S)
        found = self._free(slot, direction, wanted)
        if len(found) * 3 >= wanted:
            return median(found)
        span = self._past.slots(_SEARCHED_S)
        start = slot - span if direction < 0 else slot
        anything = sorted(each for each in self._past.rates(start, start + span) if not math.isnan(each))
        return anything[len(anything) // 4] if anything else (median(found) if found else None)

    def _free(self, slot: int, direction: int, wanted: int) -> list[float]:
        """The nearest measured slots that are not busy, at most ``wanted``, from ``slot`` on backwards or forwards."""
        found: list[float] = []
        limit = self._past.slots(_SEARCHED_S)
        at, gone = slot, 0
        while len(found) < wanted and gone < limit:
            low, high = (at - wanted, at) if direction < 0 else (at, at + wanted)
            values = self._past.rates(low, high)
            pairs = list(zip(range(low, high), values, strict=True))
            for number, value in reversed(pairs) if direction < 0 else pairs:
                if not math.isnan(value) and number not in self._busy:
                    found.append(value)
            at += direction * wanted
            gone += wanted
        return found[:wanted]
