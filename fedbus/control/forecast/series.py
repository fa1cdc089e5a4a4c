"""The load series as arrays: slots as the engine forecasts them, gaps filled where that can be honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedbus.control.load import LoadHistory

if TYPE_CHECKING:
    from fedbus.control.forecast.protocol import FloatArray

SECONDS_PER_DAY = 86_400
#: Beyond this a rate is a broken counter, not a load.
MAXIMUM_EPS = 1e12


@dataclass(frozen=True)
class SlotSeries:
    """Events/s per slot of ``slot_s`` seconds; NaN where not measured. ``first_slot`` counts from the epoch."""

    values: FloatArray
    first_slot: int
    slot_s: int

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
        return SlotSeries(self.values[:length], self.first_slot, self.slot_s)

    def tail(self, length: int) -> SlotSeries:
        """The last ``length`` slots (all, if there are fewer)."""
        skipped = max(0, len(self.values) - length)
        return SlotSeries(self.values[skipped:], self.first_slot + skipped, self.slot_s)

    def extended_to(self, end_slot: int) -> SlotSeries:
        """With NaN for slots not heard of, up to ``end_slot``; cut there if it is longer."""
        missing = max(0, end_slot - self.end_slot)
        values = np.concatenate([self.values, np.full(missing, np.nan)])
        return SlotSeries(values[: max(0, end_slot - self.first_slot)], self.first_slot, self.slot_s)

    def measured_share(self, slots: int) -> float:
        """Share of the last ``slots`` slots that was measured (0 for an empty series)."""
        last = self.values[-slots:]
        return float(np.isfinite(last).mean()) if len(last) else 0.0

    def filled(self) -> SlotSeries:
        """Without NaN: a gap takes the same time of a neighbouring day, else is bridged between its ends in the log."""
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
        return SlotSeries(values, self.first_slot, self.slot_s)


def _hole_lengths(values: FloatArray) -> FloatArray:
    """For each slot the length of the hole it lies in, 0 where measured."""
    missing = ~np.isfinite(values)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    lengths = np.zeros(len(values))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        lengths[start:end] = end - start
    return lengths


def rate_series(history: LoadHistory, slot_s: int, slots: int) -> SlotSeries:
    """The last ``slots`` slots of a history as rates; what is negative or absurd counts as not measured.

    A history in coarser slots than ``slot_s`` is spread evenly over them; its slots must be whole multiples.
    """
    if history.slot_s < slot_s:
        history = history.coarser(slot_s)
    values = np.asarray(history.events[-slots:], dtype=np.float64) / history.slot_s
    first_slot = history.first_slot + len(history.events) - len(values)
    values = np.where((values >= 0) & (values <= MAXIMUM_EPS), values, np.nan)
    parts = history.slot_s // slot_s
    return SlotSeries(np.repeat(values, parts), first_slot * parts, slot_s).tail(slots)
