"""The accuracy of forecasts at the lead that provisioning takes, summed up tick by tick.

MASE: mean absolute error of the point forecast per tick, over the error that "as yesterday" had in the history
(Hyndman & Koehler 2006). WQL: pinball loss of the quantiles per minute, weighted by the load. Coverage is one-sided:
the share of minutes whose load stays below the bound, as a fraction.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fedbus.control.load import NS_PER_S
from fedbus.control.simulation.grid import MINUTE_NS, MINUTE_S, MINUTES_PER_DAY

if TYPE_CHECKING:
    import numpy.typing as npt

    from fedbus.control.forecast.protocol import Forecast
    from fedbus.control.simulation.fleet import FloatArray
    from fedbus.control.simulation.grid import LoadGrid

COVERAGE_LEVEL = 0.95


class ForecastFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How good the forecasts were; None where nothing could be scored. ``models``: share of the ticks each one led."""

    model: str
    mase: float | None
    mase_seasonal_naive: float | None
    wql: float | None
    coverage_95: float | None
    cpu_s_per_tick: float | None
    cpu_s_per_fit: float | None
    ticks: int
    fits: int
    models: dict[str, float]


class Accuracy:
    """Scores each forecast against the minutes that orders given with it can first serve."""

    def __init__(self, grid: LoadGrid, delay_min: int) -> None:
        self._grid, self._delay_min = grid, delay_min
        self._models: Counter[str] = Counter()
        self._error, self._naive_error, self._scored = 0.0, 0.0, 0
        self._pinball: FloatArray | None = None
        self._load, self._covered, self._minutes = 0.0, 0, 0
        self._scale = self._in_sample()

    def add(self, forecast: Forecast, minute: int) -> None:
        """Score a forecast made at ``minute``, one tick's minutes from the delay on."""
        self._models[forecast.model] += 1
        grid = self._grid
        begin = minute + self._delay_min
        at = np.arange(begin, min(begin + grid.tick_min, len(grid)))
        at = at[np.isfinite(grid.load[at])]
        if not len(at):
            return
        slots = (grid.start_ns + at * MINUTE_NS - forecast.start_ns) // (forecast.slot_s * NS_PER_S)
        inside = (slots >= 0) & (slots < len(forecast.point_eps))
        at, slots = at[inside], slots[inside]
        if not len(at):
            return
        actual = grid.load[at] / MINUTE_S
        point = np.asarray(forecast.point_eps)[slots]
        yesterday = grid.load[at - MINUTES_PER_DAY] / MINUTE_S if at[0] >= MINUTES_PER_DAY else np.array([math.nan])
        if np.isfinite(yesterday).any():
            self._error += abs(float(actual.mean() - point.mean()))
            self._naive_error += abs(float(actual.mean() - np.nanmean(yesterday)))
            self._scored += 1
        self._score_bounds(forecast, actual, slots)

    def figures(self, tick_cpu_s: float | None, fit_cpu_s: float | None, ticks: int, fits: int) -> ForecastFigures:
        """All figures; CPU times are totals."""
        led = sum(self._models.values())
        scale = self._scale
        wql = None
        if self._pinball is not None and self._load > 0:
            wql = float(self._pinball.mean() / self._load)
        return ForecastFigures(
            model=self._models.most_common(1)[0][0] if led else "",
            mase=self._error / self._scored / scale if self._scored and scale else None,
            mase_seasonal_naive=self._naive_error / self._scored / scale if self._scored and scale else None,
            wql=wql,
            coverage_95=self._covered / self._minutes if self._minutes else None,
            cpu_s_per_tick=tick_cpu_s / ticks if tick_cpu_s is not None and ticks else None,
            cpu_s_per_fit=fit_cpu_s / fits if fit_cpu_s is not None and fits else None,
            ticks=ticks,
            fits=fits,
            models={name: count / led for name, count in self._models.most_common()},
        )

    def _score_bounds(self, forecast: Forecast, actual: FloatArray, slots: npt.NDArray[np.int_]) -> None:
        levels = np.array(sorted(forecast.quantiles))
        bounds = np.array([forecast.quantiles[level] for level in levels])[:, slots]
        ahead = actual - bounds
        loss = 2.0 * np.maximum(levels[:, None] * ahead, (levels[:, None] - 1.0) * ahead).sum(axis=1)
        self._pinball = loss if self._pinball is None else self._pinball + loss
        self._load += float(actual.sum())
        self._covered += int((ahead[np.searchsorted(levels, COVERAGE_LEVEL)] <= 0).sum())
        self._minutes += len(actual)

    def _in_sample(self) -> float | None:
        """Mean error of "as yesterday" in the history, in events/s per tick; None if it has not two days."""
        grid = self._grid
        width, past = grid.tick_min, grid.load[: grid.first] / MINUTE_S
        season = MINUTES_PER_DAY // width
        ticks = past[: len(past) // width * width].reshape(-1, width).mean(axis=1)
        if len(ticks) <= season:
            return None
        errors = np.abs(ticks[season:] - ticks[:-season])
        errors = errors[np.isfinite(errors)]
        return float(errors.mean()) if len(errors) and errors.mean() > 0 else None
