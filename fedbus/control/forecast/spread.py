"""How far minutes stray from a forecast: a scale that depends on the hour and the recent roughness, and one tail.

Residuals (log of a minute's load − log forecast) are divided by a scale regressed on how rough the load was lately, how
rough it was at that time of other days, and the level expected (a location-scale model, as in heteroscedastic conformal
prediction, Lei et al. 2018). The quotients are pooled; above their 90 % quantile a generalised Pareto tail is fitted by
probability-weighted moments (Hosking & Wallis 1987), because a handful of largest values is no quantile of 99.9 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedbus.control.forecast.features import IntArray
    from fedbus.control.forecast.protocol import FloatArray

#: Added to every scale, in the log: two per cent are rounding.
FLOOR = 0.02
RIDGE = 3e-3
TAIL_FROM = 0.9
LEAST_TAIL = 30
#: Bounds of the tail's shape: beyond them it is the sample that is too small.
SHAPE_BOUNDS = (-0.3, 0.3)
_DAYS = 7


class Roughness:
    """How far the minutes of each slot strayed from the slot before, in the log; looks at x[:origin] only."""

    def __init__(self, x: FloatArray, minutes: FloatArray, day: int) -> None:
        before = np.concatenate([x[:1], x[:-1]])
        strayed = (minutes - before[:, None]) ** 2
        known = np.isfinite(strayed)
        mean = np.where(known, strayed, 0.0).sum(axis=1) / np.maximum(1, known.sum(axis=1))
        self._rough = np.log(np.sqrt(mean) + FLOOR)
        self._sum = np.concatenate([[0.0], np.cumsum(self._rough)])
        self._day = day

    def at(self, origin: IntArray, lead: IntArray, expected: FloatArray, recent: FloatArray) -> FloatArray:
        """Rows of what the scale is told from, shape (n, 9). ``recent``: log level of the newest slot."""
        day = self._day
        spans = (1, max(2, day // 24), max(3, day // 4), day)
        first = (lead + 1) // day + 1
        total, found = np.zeros(len(origin)), np.zeros(len(origin))
        for back in range(_DAYS):
            for beside in (-1, 0, 1):
                at = origin + lead + beside - (first + back) * day
                total += np.where(at >= 0, self._rough[np.maximum(at, 0)], 0.0)
                found += at >= 0
        lately = self._mean(origin, day)
        usual = np.where(found > 0, total / np.maximum(1.0, found), lately)
        change = recent - expected
        columns = [*(self._mean(origin, span) for span in spans), usual, expected, expected**2, np.abs(change), change]
        return np.column_stack(columns)

    def _mean(self, origin: IntArray, span: int) -> FloatArray:
        begin = np.maximum(0, origin - span)
        return np.asarray((self._sum[origin] - self._sum[begin]) / np.maximum(1, origin - begin))


@dataclass(frozen=True)
class Spread:
    """Fitted for one lead. ``quantiles``: of the scaled residuals, one per level."""

    centre: FloatArray
    unit: FloatArray
    weights: FloatArray
    bounds: tuple[float, float]
    quantiles: FloatArray

    @classmethod
    def fit(cls, rows: FloatArray, residuals: FloatArray, levels: FloatArray) -> Spread:
        """``rows`` as of :class:`Roughness`, ``residuals`` (n, minutes) with NaN where nothing was measured."""
        measured = np.isfinite(residuals)
        heard = measured.any(axis=1)
        rows, residuals, measured = rows[heard], residuals[heard], measured[heard]
        mean = (np.where(measured, residuals, 0.0) ** 2).sum(axis=1) / measured.sum(axis=1)
        size = np.log(np.sqrt(mean) + FLOOR)
        centre, unit = rows.mean(axis=0), rows.std(axis=0) + 1e-9
        scaled = np.column_stack([(rows - centre) / unit, np.ones(len(rows))])
        gram = np.einsum("ij,ik->jk", scaled, scaled)
        gram[np.diag_indices(len(gram))] += RIDGE * len(rows)
        weights = np.linalg.solve(gram, np.einsum("ij,i->j", scaled, size))
        bounds = (float(size.min()), float(size.max()))
        scale = np.exp(np.clip(np.einsum("ij,j->i", scaled, weights), *bounds))
        quotients = (residuals / scale[:, None])[measured]
        return cls(centre, unit, weights, bounds, tail_quantiles(quotients, levels))

    def scale(self, rows: FloatArray) -> FloatArray:
        """Scale of the residuals, shape (n,)."""
        scaled = np.column_stack([(rows - self.centre) / self.unit, np.ones(len(rows))])
        return np.exp(np.clip(scaled @ self.weights, *self.bounds))


def tail_quantiles(values: FloatArray, levels: FloatArray) -> FloatArray:
    """Quantiles at ``levels``: empirical up to 90 %, above from a generalised Pareto tail."""
    found = np.quantile(values, levels)
    start = float(np.quantile(values, TAIL_FROM))
    excess = np.sort(values[values > start] - start)
    count = len(excess)
    if count < LEAST_TAIL or excess[-1] <= 0:
        return found
    mean = float(excess.mean())
    moment = float((excess * (1.0 - (np.arange(1, count + 1) - 0.35) / count)).mean())
    shape = 2.0 - mean / (mean - 2.0 * moment) if mean > 2.0 * moment else SHAPE_BOUNDS[1]
    shape = min(SHAPE_BOUNDS[1], max(SHAPE_BOUNDS[0], shape))
    size = mean * (1.0 - shape)
    above = levels > TAIL_FROM
    left = (1.0 - levels[above]) / (1.0 - TAIL_FROM)
    near_zero = abs(shape) < 1e-6  # noqa: PLR2004 - the limit of the formula below
    found[above] = start + (-size * np.log(left) if near_zero else size * (left**-shape - 1.0) / shape)
    return np.maximum.accumulate(found)
