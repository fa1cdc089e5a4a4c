"""The load series as arrays: slots as the engine forecasts them, gaps filled where that can be honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedbus.control.load import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedbus.control.forecast.protocol import FloatArray
    from fedbus.control.load import LoadHistory

SECONDS_PER_DAY = 86_400
#: Beyond this a rate is a broken counter, not a load.
MAXIMUM_EPS = 1e12
#: A slot with less than this share measured counts as a gap; the newest one waits until it is nearly over.
MINIMUM_SHARE_MEASURED, LEAST_OF_NEWEST = 0.5, 0.75
#: How much of a history is read again: late samples come within that time.
REREAD_S = 7200
ROUNDING = 1e-9
GRAINS, GRAIN_DAYS, LEAST_STEPS = (12, 6, 4, 3, 2), 3, 24


@dataclass(frozen=True)
class SlotSeries:
    """Events/s per slot of ``slot_s`` seconds; NaN where not measured. ``first_slot`` counts from the epoch.

    ``parts`` (slots, parts of a slot): what the values are means of, if more is known than these.
    """

    values: FloatArray
    first_slot: int
    slot_s: int
    parts: FloatArray | None = None

    @property
    def minutes(self) -> FloatArray:
        """Events/s of each slot's parts, shape (slots, parts)."""
        return self.values[:, None] if self.parts is None else self.parts

    @property
    def slots_per_day(self) -> int:
        """Slots in a day."""
        return SECONDS_PER_DAY // self.slot_s

    @property
    def end_slot(self) -> int:
        """Number of the first slot after the series."""
        return self.first_slot + len(self.values)

    def head(self, length: int) -> SlotSeries:
        """The first ``length`` slots."""
        return self._part(0, max(0, length))

    def tail(self, length: int) -> SlotSeries:
        """The last ``length`` slots (all, if there are fewer)."""
        return self._part(max(0, len(self.values) - length), len(self.values))

    def extended_to(self, end_slot: int) -> SlotSeries:
        """With NaN for slots not heard of, up to ``end_slot``; cut there if it is longer."""
        missing = max(0, end_slot - self.end_slot)
        if not missing:
            return self.head(end_slot - self.first_slot)
        unheard = SlotSeries(np.full(missing, np.nan), self.end_slot, self.slot_s)
        return self.continued(unheard)

    def continued(self, newer: SlotSeries) -> SlotSeries:
        """With ``newer``, which begins within or right after this series, in place of what is from there on."""
        kept = newer.first_slot - self.first_slot
        parts = None
        if self.parts is not None:
            rest = np.broadcast_to(newer.minutes, (len(newer.values), self.parts.shape[1]))
            parts = np.concatenate([self.parts[:kept], rest])
        return SlotSeries(np.concatenate([self.values[:kept], newer.values]), self.first_slot, self.slot_s, parts)

    def _part(self, start: int, end: int) -> SlotSeries:
        parts = None if self.parts is None else self.parts[start:end]
        return SlotSeries(self.values[start:end], self.first_slot + start, self.slot_s, parts)

    def measured_share(self, slots: int) -> float:
        """Share of the last ``slots`` slots that was measured (0 for an empty series)."""
        last = self.values[-slots:]
        return float(np.isfinite(last).mean()) if len(last) else 0.0

    def filled(self) -> SlotSeries:
        """Without NaN: a gap takes the same time of a neighbouring day, else is bridged between its ends in the log."""
        if np.isfinite(self.values).all():
            return self
        values = self.values.copy()
        day = self.slots_per_day
        for shift in (day, 2 * day, 7 * day):
            if shift < len(values):
                holes = np.flatnonzero(~np.isfinite(values[shift:])) + shift
                # A short hole is bridged better than copied: yesterday's level is not today's.
                holes = holes[_hole_lengths(values)[holes] > day // 24]
                values[holes] = values[holes - shift]
        known = np.isfinite(values)
        if not known.any():
            values[:] = 0.0
        elif not known.all():
            at = np.arange(len(values))
            values[~known] = np.expm1(np.interp(at[~known], at[known], np.log1p(values[known])))
        return SlotSeries(values, self.first_slot, self.slot_s, self.parts)


def _hole_lengths(values: FloatArray) -> FloatArray:
    """For each slot the length of the hole it lies in, 0 where measured."""
    missing = ~np.isfinite(values)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    lengths = np.zeros(len(values))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        lengths[start:end] = end - start
    return lengths


def rate_series(history: LoadHistory, slot_s: int, slots: int, known: SlotSeries | None = None) -> SlotSeries:
    """The last ``slots`` slots of a history as rates; what is negative or absurd counts as not measured.

    The newest slot counts as soon as most of it was measured. A history in coarser slots than ``slot_s`` is spread
    evenly over them; its slots must be whole multiples. ``known``: the series of an earlier state of the same history,
    of which only the last two hours are read again.
    """
    if history.slot_s >= slot_s:
        return _spread(history, slot_s, slots)
    parts = slot_s // history.slot_s
    first = max(-(-history.first_slot // parts), (history.first_slot + len(history.events)) // parts - slots)
    again = 0 if known is None else known.end_slot - -(-REREAD_S // slot_s)
    if known is None or not known.first_slot <= first <= again or history.end_ns < known.end_slot * slot_s * NS_PER_S:
        return _means(history, parts, slot_s, first).tail(slots)
    return known.continued(_means(history, parts, slot_s, again)).tail(slots)


def _means(history: LoadHistory, parts: int, slot_s: int, first: int) -> SlotSeries:
    """Slots from ``first`` on, as means of what was measured in them."""
    rates = _clean(history.events[max(0, first * parts - history.first_slot) :], history.slot_s)
    to_come = -len(rates) % parts
    rates = np.concatenate([rates, np.full(to_come, np.nan)]).reshape(-1, parts)
    measured = np.isfinite(rates)
    counts = measured.sum(axis=1)
    means = np.where(measured, rates, 0.0).sum(axis=1) / np.maximum(1, counts)
    values = np.where(counts >= MINIMUM_SHARE_MEASURED * parts, means, np.nan)
    series = SlotSeries(values, first, slot_s, rates)
    unfinished = to_come > 0 and counts[-1] < LEAST_OF_NEWEST * parts
    return series.head(len(values) - 1) if unfinished else series


def _spread(history: LoadHistory, slot_s: int, slots: int) -> SlotSeries:
    values = _clean(history.events[-slots:], history.slot_s)
    first_slot = history.first_slot + len(history.events) - len(values)
    parts = history.slot_s // slot_s
    return SlotSeries(np.repeat(values, parts), first_slot * parts, slot_s).tail(slots)


def _clean(events: Sequence[float], slot_s: int) -> FloatArray:
    rates = np.asarray(events, dtype=np.float64) / slot_s
    return np.where((rates >= 0) & (rates <= MAXIMUM_EPS), rates, np.nan)


def native_grain(series: SlotSeries, present: int) -> int:
    """In how many slots at once the load really changes: 6 for half-hours spread over slots of 5 minutes.

    A model must not learn from the middle of such a step that the next slot is known. ``present`` is kept until the
    last three days speak for another.
    """
    values = series.tail(GRAIN_DAYS * series.slots_per_day)
    known = np.isfinite(values.values)
    # The mean of four equal minutes is not quite that of five.
    changed = np.abs(np.diff(values.values)) > ROUNDING * np.abs(values.values[1:])
    steps = np.flatnonzero(changed & known[1:] & known[:-1]) + 1
    at = steps + values.first_slot
    if present > 1 and not (at % present).any():
        return present
    if len(steps) < LEAST_STEPS:
        return 1
    return max((grain for grain in GRAINS if series.slots_per_day % grain == 0 and not (at % grain).any()), default=1)
