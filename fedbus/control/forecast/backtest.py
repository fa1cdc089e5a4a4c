"""A fitted forecaster judged on the newest part of its history, which its fit was not shown.

The newest day (at most a quarter of the history) is forecast from many origins, so that errors and bounds are honest
from the first forecast on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedbus.control.forecast.announced import unannounced
from fedbus.control.forecast.combination import combined, weights
from fedbus.control.forecast.conformal import TrackRecord
from fedbus.control.forecast.features import LOOK_BACK_DAYS
from fedbus.control.forecast.protocol import QUANTILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedbus.control.forecast.protocol import FloatArray, Forecaster
    from fedbus.control.forecast.series import SlotSeries
    from fedbus.control.forecast.settings import EngineSettings

    PathsByOrigin = dict[int, FloatArray]

#: What a forecaster gets to see in a tick: the same time of three weeks.
WINDOW_DAYS = LOOK_BACK_DAYS


class Backtest:
    """Of one history; ``announced`` are the slots in which announced changes of the load began."""

    def __init__(
        self, series: SlotSeries, filled: SlotSeries, settings: EngineSettings, announced: tuple[int, ...]
    ) -> None:
        self._series, self._filled, self._settings, self._announced = series, filled, settings, announced
        self._held_out = min(series.slots_per_day, len(series.values) // 4)

    @property
    def shown(self) -> SlotSeries:
        """What a fit may be shown."""
        return self._filled.head(len(self._filled.values) - self._held_out)

    def paths(self, fitted: Forecaster) -> PathsByOrigin:
        """What it says at each origin, without what makes no sense."""
        end, leads = len(self._series.values), self._settings.scored_leads
        found = {}
        for origin in range(max(1, end - self._held_out), end, self._settings.backtest_stride):
            window = self._filled.head(origin).tail(WINDOW_DAYS * self._series.slots_per_day)
            path = sound(fitted.forward(window, leads), window, self._settings.largest_growth)
            if path is not None:
                found[origin] = path
        return found

    def record(self, paths: PathsByOrigin) -> TrackRecord:
        """The record that these paths earn."""
        series, leads = self._series, self._settings.scored_leads
        padded = np.concatenate([series.values, np.full(leads, np.nan)])
        parts = np.concatenate([series.minutes, np.full((leads, series.minutes.shape[1]), np.nan)])
        record = new_record(self._settings)
        for origin, path in paths.items():
            actual = unannounced(padded[origin : origin + leads], series.first_slot + origin, self._announced)
            record.add(path, actual, np.where(np.isfinite(actual)[:, None], parts[origin : origin + leads], np.nan))
        return record

    def combination(
        self, paths: Mapping[str, PathsByOrigin], records: Mapping[str, TrackRecord], lead: int
    ) -> TrackRecord | None:
        """The record of all of them, weighted; None if one is as good alone.

        The weights come from the day they are judged on: so few numbers learn little from so many forecasts.
        """
        errors = {name: records[name].mean_absolute_error(lead) for name in paths}
        weighted = weights(errors, min((len(records[name]) for name in paths), default=0))
        if not weighted:
            return None
        common = set.intersection(*(set(paths[name]) for name in weighted))
        return self.record(
            {origin: combined({name: paths[name][origin] for name in weighted}, weighted) for origin in sorted(common)}
        )


def new_record(settings: EngineSettings) -> TrackRecord:
    """An empty record."""
    return TrackRecord(settings.scored_leads, settings.record_slots, QUANTILES)


def sound(path: FloatArray, window: SlotSeries, largest_growth: float) -> FloatArray | None:
    """The path within its clamps, or None if it is not finite or mostly beyond them."""
    ceiling = largest_growth * float(window.values.max(initial=0.0))
    if not np.isfinite(path).all() or float(np.median(path)) > ceiling:
        return None
    return np.clip(path, 0.0, ceiling)
