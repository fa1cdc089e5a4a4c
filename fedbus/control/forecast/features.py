"""What a load's next values are told from: its recent level at several time scales, and the same time of other days.

All in the log, as differences to the level of the last hour, so that one set of weights serves every level. Origins
and leads may be arrays: a fit asks for thousands of origins at one lead, a tick for one origin at many leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from fedbus.control.forecast.protocol import FloatArray

    IntArray = npt.NDArray[np.int64]

#: Recent levels, in minutes.
SPANS_MIN = (5, 15, 60, 180)
#: The level that everything is measured against: that of the last hour.
REFERENCE_MIN = 60
PROFILE_DAYS, PROFILE_WEEKS = 7, 3
#: Days of history that a forecast looks back on.
LOOK_BACK_DAYS = 7 * PROFILE_WEEKS + 1
_MINUTES_PER_DAY = 1440


class Features:
    """Features of one series of log levels ``x`` with ``day`` slots a day; an origin i sees x[:i]."""

    def __init__(self, x: FloatArray, day: int) -> None:
        self._x, self._day = x, day
        self._sum = np.concatenate([[0.0], np.cumsum(x)])
        padded = np.concatenate([x[:1], x, x[-1:]])
        self._smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3.0
        slot_min = _MINUTES_PER_DAY / day
        self._spans = sorted({max(1, round(span / slot_min)) for span in SPANS_MIN})
        self._reference = max(1, round(REFERENCE_MIN / slot_min))

    def reference(self, origin: IntArray) -> FloatArray:
        """The log level that features and targets are relative to."""
        return self._level(origin, self._reference)

    def at(self, origin: IntArray, lead: IntArray) -> FloatArray:
        """Rows of features, shape (n, features), for the slot ``origin + lead``; both (n,), lead from 0."""
        day, week = self._day, 7 * self._day
        levels = [self._level(origin, span) for span in (*self._spans, day)]
        at_day, usual = self._same(self._x, origin, lead, day, 1), self._same(self._x, origin, lead, day, PROFILE_DAYS)
        days = self._same(self._smooth, origin, lead, day, PROFILE_DAYS, 1)
        known = origin + lead - (lead // week + 1) * week >= 0
        at_week = np.where(known, self._same(self._x, origin, lead, week, 1), usual)
        weeks = np.where(known, self._same(self._x, origin, lead, week, PROFILE_WEEKS), usual)
        columns = [*levels, at_day, usual, days, at_week, weeks]
        for span in self._spans:
            columns += [
                self._past_level(origin, span, day, 1),
                self._past_level(origin, span, week, 1),
                self._past_level(origin, span, day, PROFILE_DAYS),
            ]
        rows = np.column_stack(columns) - self.reference(origin)[:, None]
        changes = [self._change(origin, lead, *season) for season in ((day, PROFILE_DAYS), (week, PROFILE_WEEKS))]
        return np.column_stack([rows, *changes, np.ones(len(rows))])

    def _change(self, origin: IntArray, lead: IntArray, season: int, count: int) -> FloatArray:
        """How far the target usually lies above the last hour, from smoothed seasons: what a step edge is told from."""
        usual = self._same(self._smooth, origin, lead, season, count, 1)
        return np.where(
            origin > season + self._reference, usual - self._past_level(origin, self._reference, season, count), 0.0
        )

    def _level(self, origin: IntArray, span: int) -> FloatArray:
        begin = np.maximum(0, origin - span)
        return np.asarray((self._sum[origin] - self._sum[begin]) / np.maximum(1, origin - begin))

    def _same(
        self, values: FloatArray, origin: IntArray, lead: IntArray, season: int, count: int, reach: int = 0
    ) -> FloatArray:
        """Mean of the value at the same time of up to ``count`` earlier seasons; the last hour's level without any.

        ``reach``: slots after its own that a value was made of.
        """
        first = (lead + reach) // season + 1
        total, found = np.zeros(len(origin)), np.zeros(len(origin))
        for back in range(count):
            at = origin + lead - (first + back) * season
            total += np.where(at >= 0, values[np.maximum(at, 0)], 0.0)
            found += at >= 0
        return np.where(found > 0, total / np.maximum(1.0, found), self.reference(origin))

    def _past_level(self, origin: IntArray, span: int, season: int, count: int) -> FloatArray:
        """What the level of the last ``span`` slots was at that time of earlier seasons; the present one without."""
        total, found = np.zeros(len(origin)), np.zeros(len(origin))
        for back in range(1, count + 1):
            end = origin - back * season
            total += np.where(end >= span, (self._sum[np.maximum(end, 0)] - self._sum[np.maximum(end - span, 0)]), 0.0)
            found += end >= span
        return np.where(found > 0, total / np.maximum(1.0, found) / span, self._level(origin, span))
