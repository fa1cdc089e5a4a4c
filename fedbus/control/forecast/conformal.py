"""Quantiles from a forecaster's own past errors: online conformal prediction, per lead.

The upper bound at level q is the point forecast plus the q-quantile of recent residuals at that lead (split
conformal, Vovk et al. 2005), in the log, because errors of a load are proportional to it. Each lead's level is
corrected by whether its bound held (adaptive conformal inference, Gibbs & Candès 2021): α ← α + γ·(hit − wanted). No
distribution is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedbus.control.forecast.protocol import FloatArray

STEP = 0.01
#: With fewer residuals than this at a lead its quantiles say nothing.
MINIMUM_RESIDUALS = 20
#: With so many residuals, a few more hardly move a quantile: sorted again after every sixth only.
MANY, REORDERED_EVERY = 100, 6
WIDTH_LEVEL, WIDTH_STEP, WIDTH_LIMIT = 0.95, 0.02, 1.0


class TrackRecord:
    """Residuals of one forecaster per lead, log1p(actual) − log1p(forecast), newest last.

    And what follows from them.
    """

    def __init__(self, leads: int, window: int, quantiles: Sequence[float]) -> None:
        self._quantiles = np.asarray(quantiles, dtype=np.float64)
        self._residuals = np.full((window, leads), np.nan)
        self._errors = np.full((window, leads), np.nan)
        self._levels = np.tile(self._quantiles, (leads, 1))
        self._row = 0
        self._count = 0
        self._offsets: FloatArray | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, forecast: FloatArray, actual: FloatArray, minutes: FloatArray | None = None) -> None:
        """Score one forecast path (leads,) against what came, in events/s; NaN where nothing was measured.

        The bounds are of ``minutes`` (leads, parts), if given: one of each slot, in turn, stands for all.
        """
        came = actual if minutes is None else minutes[:, self._row % minutes.shape[1]]
        residual = np.log1p(came) - np.log1p(forecast)
        misses = residual[:, None] > self.offsets()
        correction = STEP * (misses - (1.0 - self._quantiles))
        self._levels += np.where(np.isfinite(residual)[:, None] & self._seasoned()[:, None], correction, 0.0)
        # Never below half-way to the median: a calm day must not talk a bound away altogether.
        np.clip(self._levels, 0.5 + (self._quantiles - 0.5) / 2, 1.0, out=self._levels)
        self._residuals[self._row] = residual
        self._errors[self._row] = np.abs(actual - forecast)
        self._row = (self._row + 1) % len(self._residuals)
        self._count = min(self._count + 1, len(self._residuals))
        if self._row % REORDERED_EVERY == 0 or self._count <= MANY:
            self._offsets = None

    def mean_absolute_error(self, lead: int) -> float:
        """Events/s over the window at ``lead`` (0 = the next slot); NaN while nothing was scored."""
        errors = self._errors[:, min(lead, self._errors.shape[1] - 1)]
        errors = errors[np.isfinite(errors)]
        return float(errors.mean()) if len(errors) else float("nan")

    def offsets(self) -> FloatArray:
        """To add to log1p of the point path, shape (leads, quantiles); non-decreasing in the quantile.

        Where a lead has too few residuals, a plain spread that grows with the lead.
        """
        if self._offsets is None:
            self._offsets = self._ordered_offsets()
        return self._offsets

    def _ordered_offsets(self) -> FloatArray:
        ordered = np.sort(self._residuals, axis=0)  # NaN last
        counts = np.isfinite(self._residuals).sum(axis=0)
        # The (n + 1)-corrected rank of split conformal prediction; beyond the largest residual there is only that one.
        ranks = np.ceil(self._levels * (counts[:, None] + 1)).astype(np.int64) - 1
        ranks = np.clip(ranks, 0, np.maximum(counts[:, None] - 1, 0))
        found = np.take_along_axis(ordered, ranks.T, axis=0).T
        usable = self._seasoned()[:, None] & np.isfinite(found)
        return np.maximum.accumulate(np.where(usable, found, self._plain_spread()), axis=1)

    def _seasoned(self) -> FloatArray:
        return np.asarray(np.isfinite(self._residuals).sum(axis=0) >= MINIMUM_RESIDUALS)

    def _plain_spread(self) -> FloatArray:
        leads = np.sqrt(np.arange(1, self._residuals.shape[1] + 1))[:, None]
        return np.minimum(0.7, 0.1 * leads) * np.maximum(0.0, (self._quantiles - 0.5) * 4)


class Widths:
    """Factors by lead that keep a model's own spread honest: wider after misses at 95 %, narrower after hits."""

    def __init__(self, leads: int) -> None:
        self._log = np.zeros(leads)

    def add(self, bound: FloatArray, minutes: FloatArray) -> None:
        """Hold the 95 % bound (leads,) against what came, (leads, parts), NaN where nothing was measured."""
        known = np.isfinite(minutes)
        counts = known.sum(axis=1)
        missed = (known & (minutes > bound[:, None])).sum(axis=1) / np.maximum(1, counts)
        self._log += np.where(counts > 0, WIDTH_STEP * (missed - (1.0 - WIDTH_LEVEL)), 0.0)
        np.clip(self._log, -WIDTH_LIMIT, WIDTH_LIMIT, out=self._log)

    def factors(self) -> FloatArray:
        """To multiply the spread with, shape (leads,)."""
        return np.exp(self._log)
