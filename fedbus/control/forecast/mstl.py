"""Seasons taken out by LOESS (MSTL), what is left continued by ARIMA(2,0,1), on log1p of the load.

Bandara, Hyndman & Bergmeir 2021 (arXiv:2107.13462), as statsforecast has it. Decomposing belongs to the fit; a tick
only takes the seasons found from the recent window and passes the rest through the fitted ARIMA: about a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fedbus.control.forecast.protocol import FloatArray, Series

ORDER = (2, 0, 1)
#: LOESS is evaluated so often in a day and interpolated between: 5 to 40 times faster, and as accurate.
TREND_JUMPS_PER_DAY, LOW_PASS_JUMPS_PER_DAY = 4, 6
#: As with ARIMA: the filter has long forgotten what was before.
WINDOW_DAYS = 2
LEAST_DAYS = 3


@dataclass(frozen=True)
class MstlForecaster:
    """``trend`` is statsforecast's fitted ARIMA, ``season`` (slots of a day) begins at ``first_slot``."""

    name: str = "mstl"
    needs_recent: bool = True
    slow: bool = False
    trend: Any = None
    season: FloatArray | None = None
    first_slot: int = 0

    def minimum_slots(self, slots_per_day: int) -> int:
        """Three days: two make a season that is mostly noise."""
        return LEAST_DAYS * slots_per_day

    def fit(self, series: Series) -> MstlForecaster:
        """Decompose and fit, about 0.1 s for four weeks; raises what statsforecast raises (a constant series)."""
        from statsforecast.models import ARIMA, MSTL

        day = series.slots_per_day
        jumps = {
            "trend_jump": max(1, day // TREND_JUMPS_PER_DAY),
            "low_pass_jump": max(1, day // LOW_PASS_JUMPS_PER_DAY),
        }
        model = MSTL(day, trend_forecaster=ARIMA(order=ORDER), stl_kwargs=jumps)
        model.fit(np.log1p(series.values))
        season = np.asarray(model.model_["seasonal"], dtype=np.float64)[-day:]
        end_slot = series.first_slot + len(series.values)
        return MstlForecaster(trend=model.trend_forecaster, season=season, first_slot=end_slot - day)

    def forward(self, window: Series, horizon: int) -> FloatArray:
        """Forecast from the window's end; seasons and parameters stay as fitted."""
        assert self.season is not None, "fit first"
        values = np.log1p(window.values[-WINDOW_DAYS * window.slots_per_day :])
        begin = window.first_slot + len(window.values) - len(values)
        at = np.arange(begin, begin + len(values) + horizon) - self.first_slot
        season = np.take(self.season, at, mode="wrap")
        path = self.trend.forward(values - season[: len(values)], h=horizon)["mean"]
        return np.expm1(np.asarray(path, dtype=np.float64) + season[len(values) :])
