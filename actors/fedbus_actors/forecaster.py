"""The forecaster: one actor that holds the forecast engines of the regions of its cluster.

Regions send what is new of their load history and get a forecast back; fits run in one background thread, one at a
time. Keeps nothing on disk: after a restart it says how much it knows, and the managers send the rest from their
stores.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Lock

from fedbus.control.forecast.engine import ForecastEngine
from fedbus.control.load import LoadHistory, LoadSample
from fedbus.control.trigger import Trigger
from fedbus.threads import spawn
from fedbus_actors.forecast_request import ForecastAnswer, ForecastRequest

log = logging.getLogger(__name__)


class _Region:
    """One region's history and engine."""

    def __init__(self, request: ForecastRequest) -> None:
        self.slot_s = request.slot_s
        self.history = LoadHistory(request.slot_s, request.settings.history_days * 86_400 // request.slot_s)
        self.engine = ForecastEngine(request.region, request.settings)
        self.fitting = False


class Forecaster:
    """Plain class; Ray makes an actor of it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._regions: dict[str, _Region] = {}
        self._fits: SimpleQueue[tuple[str, tuple[Trigger, ...]]] = SimpleQueue()
        spawn("forecast-fits", self._fit_for_ever)

    def forecast(self, request: ForecastRequest) -> ForecastAnswer:
        """Take the new samples and forecast; never raises for odd histories (the engine falls back)."""
        with self._lock:
            region = self._regions.get(request.region)
            if region is None or region.slot_s != request.slot_s:
                region = self._regions[request.region] = _Region(request)
            known_ns = region.history.end_ns if len(region.history) else 0
            if request.known_until_ns > known_ns:
                return ForecastAnswer(known_ns, None)
            region.history.extend(_newer(request.samples, known_ns))
            if not len(region.history):
                return ForecastAnswer(0, None)
            region.engine.observe(region.history, request.triggers)
            if not region.fitting and region.engine.fit_due(request.now_ns):
                region.fitting = True
                self._fits.put((request.region, request.triggers))
            forecast = region.engine.forecast(request.now_ns, request.horizon_s, request.lead_s)
            return ForecastAnswer(region.history.end_ns, forecast)

    def ready(self) -> bool:
        """Whether every region that asked has fitted models (false while the first fits run)."""
        with self._lock:
            return bool(self._regions) and not any(region.fitting for region in self._regions.values())

    def _fit_for_ever(self) -> None:
        while True:
            name, triggers = self._fits.get()
            with self._lock:
                region = self._regions[name]
                history = LoadHistory(region.slot_s, max(1, len(region.history)))
                history.extend(region.history.samples())
            try:
                fitted = region.engine.fit(history, triggers)
                with self._lock:
                    region.engine.adopt(fitted)
            except Exception:  # a forecast is never worth a crash: the engine goes on with what it has
                log.exception("region %s: the models could not be fitted", name)
            finally:
                region.fitting = False


def _newer(samples: Sequence[LoadSample], known_ns: int) -> list[LoadSample]:
    return [sample for sample in samples if sample.time_ns >= known_ns]
