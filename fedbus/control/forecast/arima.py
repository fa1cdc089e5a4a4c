"""ARIMA(2,0,1) with Fourier terms for the day (and the week, given four of them) on log1p of the load.

Dynamic harmonic regression (Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 10.5), fitted once in the
background; each tick only passes the recent window through the fitted model, which takes about a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fedbus.control.forecast.protocol import FloatArray, Series

ORDER = (2, 0, 1)
DAY_TERMS, WEEK_TERMS = 5, 3
#: Beyond two days the filter has forgotten its start (0.93^576 < 1e-17); a longer window only costs time.
WINDOW_DAYS = 2


@dataclass(frozen=True)
class ArimaForecaster:
    """``fitted`` is statsforecast's model, ``weekly`` whether it was fitted with terms for the week."""

    name: str = "arima"
    needs_recent: bool = True
    slow: bool = True
    fitted: Any = None
    weekly: bool = False

    def minimum_slots(self, slots_per_day: int) -> int:
        """Two days: with fewer seasons the day's terms fit the noise."""
        return 2 * slots_per_day

    def fit(self, series: Series) -> ArimaForecaster:
        """Maximum-likelihood fit, 0.3–3 s; raises what statsforecast raises (no convergence, constant series)."""
        from statsforecast.models import ARIMA

        weekly = len(series.values) >= 4 * 7 * series.slots_per_day
        model = ARIMA(order=ORDER)
        terms = _fourier(series.first_slot, len(series.values), series.slots_per_day, weekly=weekly)
        model.fit(np.log1p(series.values), X=terms)
        return ArimaForecaster(fitted=model, weekly=weekly)

    def forward(self, window: Series, horizon: int) -> FloatArray:
        """Forecast from the window's end; the parameters stay as fitted."""
        day = window.slots_per_day
        values = window.values[-WINDOW_DAYS * day :]
        end = window.first_slot + len(window.values)
        path = self.fitted.forward(
            np.log1p(values),
            h=horizon,
            X=_fourier(end - len(values), len(values), day, weekly=self.weekly),
            X_future=_fourier(end, horizon, day, weekly=self.weekly),
        )["mean"]
        return np.expm1(np.asarray(path, dtype=np.float64))


def _fourier(first_slot: int, slots: int, slots_per_day: int, *, weekly: bool) -> FloatArray:
    """Sine and cosine columns, shape (slots, 2·terms), in the phase of absolute time."""
    at = np.arange(first_slot, first_slot + slots, dtype=np.float64)
    columns: list[FloatArray] = []
    for period, terms in ((slots_per_day, DAY_TERMS), (7 * slots_per_day, WEEK_TERMS if weekly else 0)):
        for term in range(1, terms + 1):
            angle = 2 * np.pi * term * (at % period) / period
            columns += [np.sin(angle), np.cos(angle)]
    return np.column_stack(columns)
