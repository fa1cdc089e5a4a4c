"""Direct regression: one linear model per lead on recent levels and on the same time of other days and weeks.

Ridge regression with Huber weights (three rounds of reweighting), on the log of load plus half its mean: small loads
must not dominate. It contains seasonal naive, last value and profile × level as special cases, fits in a fraction of a
second, forecasts in well under a millisecond, and knows its own spread, so that it carries quantiles of its minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedbus.control.forecast.features import LOOK_BACK_DAYS, Features
from fedbus.control.forecast.prices import violation_prices
from fedbus.control.forecast.protocol import BUDGETS, QUANTILES
from fedbus.control.forecast.spread import Roughness, Spread

if TYPE_CHECKING:
    from fedbus.control.forecast.protocol import FloatArray, Series

#: The load's offset in the log, as a share of its mean.
OFFSET = 0.5
#: Leads with a model of their own, as shares of a day beyond the first dozen; between them weights are interpolated.
FIRST_LEADS = 12
LATER_LEADS = (1 / 12, 1 / 6, 1 / 4, 1 / 2, 1.0)
RIDGE = 0.002
ROUNDS = 3
#: Prices are reckoned from every third forecast of the last two weeks.
PRICED_DAYS, PRICED_EVERY = 14, 3
BLOCK = 256
HUBER = 1.345 * 1.4826
LEAST_DAYS = 2
_LEVELS = np.array(QUANTILES)


@dataclass(frozen=True)
class DirectForecaster:
    """``weights`` (anchors, features) and ``spreads`` per anchor lead; ``prices`` per lead of a violated minute."""

    name: str = "direct"
    needs_recent: bool = True
    slow: bool = False
    offset: float = 0.0
    anchors: tuple[int, ...] = ()
    weights: FloatArray | None = None
    spreads: tuple[Spread, ...] = ()
    prices: tuple[tuple[float, ...], ...] = ()

    def minimum_slots(self, slots_per_day: int) -> int:
        """Two days: one to look back on, one to learn from."""
        return LEAST_DAYS * slots_per_day

    def fit(self, series: Series) -> DirectForecaster:
        """Fit all leads: a few tenths of a second for four weeks. ValueError for a series that is always zero."""
        day, slots = series.slots_per_day, len(series.values)
        offset = OFFSET * float(series.values.mean())
        if offset <= 0:
            raise ValueError("the load is always zero")
        x, minutes = np.log(series.values + offset), np.log(series.minutes + offset)
        features, rough = Features(x, day), Roughness(x, minutes, day)
        later = {round(share * day) for share in LATER_LEADS}
        anchors = tuple(lead for lead in sorted({*range(FIRST_LEADS), *later}) if lead < slots - day - day // 2)
        weights, spreads, prices = [], [], []
        for lead in anchors:
            origin = np.arange(day + day // 8, slots - lead)
            leads = np.full(len(origin), lead)
            rows, reference = features.at(origin, leads), features.reference(origin)
            weights.append(_robust_ridge(rows, x[origin + lead] - reference))
            expected = reference + rows @ weights[-1]
            told = rough.at(origin, leads, expected, x[origin - 1])
            spreads.append(Spread.fit(told, minutes[origin + lead] - expected[:, None], _LEVELS))
            recent = slice(-PRICED_DAYS * day, None, PRICED_EVERY)
            bound = expected[recent, None] + spreads[-1].scale(told[recent])[:, None] * spreads[-1].quantiles
            prices.append(violation_prices(np.clip(np.exp(bound) - offset, 0.0, None), _LEVELS, BUDGETS))
        return DirectForecaster(
            offset=offset, anchors=anchors, weights=np.array(weights), spreads=tuple(spreads), prices=tuple(prices)
        )

    def forward(self, window: Series, horizon: int) -> FloatArray:
        """The expected path."""
        return self.forward_with_bounds(window, horizon)[0]

    def forward_with_bounds(self, window: Series, horizon: int, widths: FloatArray | None = None) -> Bounded:
        """Path (horizon,) and quantiles of a minute (horizon, levels) in events/s.

        ``widths``: factors of the spread by lead, the last one for all beyond (a correction by past coverage).
        """
        assert self.weights is not None, "fit first"
        day = window.slots_per_day
        keep = LOOK_BACK_DAYS * day
        x = np.log(window.values[-keep:] + self.offset)
        minutes = np.log(window.minutes[-keep:][-8 * day :] + self.offset)
        lead = np.arange(horizon)
        origin = np.full(horizon, len(x))
        features = Features(x, day)
        anchor = np.minimum(lead, self.anchors[-1])
        mixed = np.column_stack([np.interp(anchor, self.anchors, column) for column in self.weights.T])
        expected = features.reference(origin) + (features.at(origin, lead) * mixed).sum(axis=1)
        near = x[-len(minutes) :]
        told = Roughness(near, minutes, day).at(np.full(horizon, len(near)), lead, expected, np.full(horizon, x[-1]))
        which = np.searchsorted(self.anchors, anchor, side="right") - 1
        width = np.empty((horizon, len(_LEVELS)))
        for index in np.unique(which):
            at, spread = which == index, self.spreads[index]
            width[at] = spread.scale(told[at])[:, None] * spread.quantiles
        if widths is not None:
            width *= widths[np.minimum(lead, len(widths) - 1)][:, None]
        with np.errstate(over="ignore"):
            bounds = np.exp(expected[:, None] + width) - self.offset
            return np.exp(expected) - self.offset, bounds

    def prices_at(self, lead: int) -> dict[float, float]:
        """Price of a violated minute per budget, in events/s of capacity, at ``lead``."""
        at = int(np.searchsorted(self.anchors, min(lead, self.anchors[-1]), side="right")) - 1
        return dict(zip(BUDGETS, self.prices[at], strict=True))


if TYPE_CHECKING:
    Bounded = tuple[FloatArray, FloatArray]


def _robust_ridge(rows: FloatArray, target: FloatArray) -> FloatArray:
    """Weights of a ridge regression in which large residuals count like smaller ones (Huber)."""
    weight = np.ones(len(target))
    found: FloatArray = np.zeros(rows.shape[1])
    for _ in range(ROUNDS):
        weighted = rows * weight[:, None]
        gram, moment = _products(weighted, rows), _products(weighted, target[:, None])[:, 0]
        penalty = RIDGE * float(np.diag(gram)[:-1].mean()) + 1e-9
        gram[np.diag_indices(len(gram))] += np.append(np.full(len(gram) - 1, penalty), 0.01)
        found = np.asarray(np.linalg.solve(gram, moment), dtype=np.float64)
        residual = np.abs(target - np.einsum("ij,j->i", rows, found))
        limit = HUBER * float(np.median(residual)) + 1e-9
        weight = np.asarray(np.minimum(1.0, limit / np.maximum(residual, 1e-12)))
    return found


def _products(left: FloatArray, right: FloatArray) -> FloatArray:
    """leftᵀ · right in blocks so small that a BLAS stays on one thread (on busy cores threads wait for each other)."""
    whole = len(left) // BLOCK * BLOCK
    blocks = np.matmul(
        left[:whole].reshape(-1, BLOCK, left.shape[1]).transpose(0, 2, 1),
        right[:whole].reshape(-1, BLOCK, right.shape[1]),
    )
    return np.asarray(blocks.sum(axis=0) + left[whole:].T @ right[whole:])
