"""Load history: how many events and bytes a region took in, slot by slot, and how instance counters become slots.

A slot is a fixed stretch of time aligned to the epoch; what was not measured is NaN, never zero, because a forecaster
must not learn silence from a lost metric. The histories are kept as plain lists: NumPy belongs to the forecasters.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NS_PER_S = 1_000_000_000
DEFAULT_SLOT_S = 60
#: Four weeks of minutes, the most a weekly season needs, and a day to spare.
DEFAULT_MAXIMUM_SLOTS = 29 * 24 * 60
#: A coarser slot with less than this share of its parts measured counts as missing.
MINIMUM_SHARE_MEASURED = 0.5


class LoadSample(msgspec.Struct, frozen=True):
    """Load of one slot: ``time_ns`` is its start, ``events`` and ``bytes`` are totals over the slot."""

    time_ns: int
    events: float
    bytes: float = 0.0


class LoadHistory:
    """A regular series of slots, bounded in length, oldest first; slots never measured are NaN."""

    def __init__(self, slot_s: int = DEFAULT_SLOT_S, maximum_slots: int = DEFAULT_MAXIMUM_SLOTS) -> None:
        assert slot_s > 0
        assert maximum_slots > 0
        self.slot_s = slot_s
        self.maximum_slots = maximum_slots
        self.first_slot = 0
        """Number of the oldest slot, counted from the epoch in slots."""
        self.events: list[float] = []
        self.bytes: list[float] = []

    def __len__(self) -> int:
        return len(self.events)

    @property
    def slot_ns(self) -> int:
        """Length of a slot in nanoseconds."""
        return self.slot_s * NS_PER_S

    @property
    def end_ns(self) -> int:
        """End of the newest slot (0 while empty)."""
        return (self.first_slot + len(self.events)) * self.slot_ns if self.events else 0

    def append(self, sample: LoadSample) -> None:
        """Take one slot in: gaps before it become NaN, a slot already held is replaced, one too old is ignored."""
        slot = sample.time_ns // self.slot_ns
        ahead = slot - (self.first_slot + len(self.events))
        if not self.events or ahead >= self.maximum_slots:
            self.first_slot, self.events, self.bytes = slot, [sample.events], [sample.bytes]
        elif ahead >= 0:
            self.events += [*[math.nan] * ahead, sample.events]
            self.bytes += [*[math.nan] * ahead, sample.bytes]
        elif slot >= self.first_slot:
            self.events[slot - self.first_slot] = sample.events
            self.bytes[slot - self.first_slot] = sample.bytes
        self._trim()

    def extend(self, samples: Iterable[LoadSample]) -> None:
        """Append many samples (a backfill, what the store holds)."""
        for sample in samples:
            self.append(sample)

    def samples(self) -> Iterator[LoadSample]:
        """The measured slots, oldest first; gaps are simply absent (this is what a store keeps)."""
        for index, (events, size) in enumerate(zip(self.events, self.bytes, strict=True)):
            if not math.isnan(events):
                yield LoadSample((self.first_slot + index) * self.slot_ns, events, size)

    def recent_peak_eps(self, slots: int) -> float | None:
        """Largest measured rate of the last ``slots`` slots, in events/s; None if none of them was measured."""
        measured = [events for events in self.events[-slots:] if not math.isnan(events)]
        return max(measured) / self.slot_s if measured else None

    def coarser(self, slot_s: int) -> LoadHistory:
        """The same history in longer slots (whole multiples).

        Only slots wholly past, scaled up for parts not measured.
        """
        assert slot_s % self.slot_s == 0
        parts = slot_s // self.slot_s
        result = LoadHistory(slot_s, max(1, self.maximum_slots // parts))
        lead_in = -self.first_slot % parts
        result.first_slot = (self.first_slot + lead_in) // parts
        for start in range(lead_in, len(self.events) - parts + 1, parts):
            result.events.append(_scaled_total(self.events[start : start + parts]))
            result.bytes.append(_scaled_total(self.bytes[start : start + parts]))
        result._trim()
        return result

    def _trim(self) -> None:
        surplus = len(self.events) - self.maximum_slots
        if surplus > 0:
            del self.events[:surplus], self.bytes[:surplus]
            self.first_slot += surplus


def _scaled_total(parts: list[float]) -> float:
    measured = [part for part in parts if not math.isnan(part)]
    if len(measured) < MINIMUM_SHARE_MEASURED * len(parts):
        return math.nan
    return sum(measured) * len(parts) / len(measured)


class CounterReading(msgspec.Struct, frozen=True):
    """An instance's own running totals at ``time_ns``; they start at zero when its incarnation (``epoch``) starts."""

    instance: str
    epoch: int
    started_ns: int
    time_ns: int
    events: int
    bytes: int


class RateMeter:
    """The present rate of one instance, over the last ``span_s`` seconds or as if it had been watched for so long.

    A few events in a moment say nothing about a rate: one event in half a second is not two events/s.
    """

    MOST_READINGS = 1_000

    def __init__(self, span_s: float) -> None:
        self._span_ns = round(span_s * NS_PER_S)
        self._readings: deque[CounterReading] = deque(maxlen=self.MOST_READINGS)

    def read(self, reading: CounterReading) -> None:
        """Take the next reading; a new incarnation begins a new record."""
        readings = self._readings
        if readings and readings[-1].epoch != reading.epoch:
            readings.clear()
        readings.append(reading)
        while len(readings) > 1 and readings[1].time_ns <= reading.time_ns - self._span_ns:
            readings.popleft()

    def rate(self) -> tuple[float, float]:
        """Events/s and bytes/s."""
        if not self._readings:
            return 0.0, 0.0
        first, last = self._readings[0], self._readings[-1]
        passed_s = max(self._span_ns, last.time_ns - first.time_ns) / NS_PER_S
        return max(0, last.events - first.events) / passed_s, max(0, last.bytes - first.bytes) / passed_s


class LoadMeter:
    """Turns the counters of a region's instances into slots of the whole region.

    An increase is spread evenly over the time since the previous reading. A restarted instance counts from zero again
    and loses nothing but what it took in between its last reading and its end. A slot during which a known instance
    said nothing is not emitted at all: a history then shows a gap instead of a dip.
    """

    def __init__(self, began_ns: int, slot_s: int = DEFAULT_SLOT_S, grace_s: int | None = None) -> None:
        self._slot_ns = slot_s * NS_PER_S
        self._grace_ns = self._slot_ns if grace_s is None else grace_s * NS_PER_S
        self._began_ns = began_ns
        self._next_slot = -(-began_ns // self._slot_ns)
        """The first slot not yet closed.

        The one that was under way at the beginning is only partly seen and left out.
        """
        self._last: dict[str, CounterReading] = {}
        self._open: dict[int, list[float]] = {}

    def read(self, reading: CounterReading) -> None:
        """Take one reading; readings older than the last of the same instance are ignored."""
        last = self._last.get(reading.instance)
        if last is not None and reading.time_ns <= last.time_ns:
            return
        self._last[reading.instance] = reading
        continued = last is not None and last.epoch == reading.epoch and last.events <= reading.events
        if last is not None and continued:
            self._spread(last.time_ns, reading.time_ns, reading.events - last.events, reading.bytes - last.bytes)
        elif last is not None or reading.started_ns >= self._began_ns:
            start_ns = max(reading.started_ns, last.time_ns if last is not None else self._began_ns)
            self._spread(min(start_ns, reading.time_ns - 1), reading.time_ns, reading.events, reading.bytes)

    def forget(self, instance: str) -> None:
        """The instance is drained or dead: nothing more is expected of it; what it counted stays."""
        self._last.pop(instance, None)

    def silent(self, now_ns: int) -> tuple[str, ...]:
        """Known instances whose last reading is older than a slot and the grace: metrics are incomplete."""
        oldest_ns = now_ns - self._slot_ns - self._grace_ns
        return tuple(sorted(name for name, reading in self._last.items() if reading.time_ns < oldest_ns))

    def close(self, now_ns: int) -> list[LoadSample]:
        """Finished slots, oldest first: complete ones at once, after the grace only those nobody was silent in."""
        if not self._last and not self._open:
            self._next_slot = max(self._next_slot, now_ns // self._slot_ns)
            return []
        closed: list[LoadSample] = []
        heard_ns = min((reading.time_ns for reading in self._last.values()), default=now_ns)
        while (end_ns := (self._next_slot + 1) * self._slot_ns) <= now_ns:
            if heard_ns < end_ns and now_ns < end_ns + self._grace_ns:
                break
            events, size = self._open.pop(self._next_slot, [0.0, 0.0])
            if heard_ns >= end_ns:
                closed.append(LoadSample(self._next_slot * self._slot_ns, events, size))
            self._next_slot += 1
        return closed

    def _spread(self, start_ns: int, end_ns: int, events: int, size: int) -> None:
        length_ns = end_ns - start_ns
        first = max(start_ns // self._slot_ns, self._next_slot)
        for slot in range(first, (end_ns - 1) // self._slot_ns + 1):
            overlap_ns = min(end_ns, (slot + 1) * self._slot_ns) - max(start_ns, slot * self._slot_ns)
            totals = self._open.setdefault(slot, [0.0, 0.0])
            totals[0] += events * overlap_ns / length_ns
            totals[1] += max(0, size) * overlap_ns / length_ns
