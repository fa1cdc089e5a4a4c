"""The manager's side of forecasting: sends what is new of the history, takes the forecast when it is there.

Never waits: the forecaster may be slow, dead or starting (its imports alone take seconds); meanwhile the last forecast
stands, and the plan judges its age.
"""

from __future__ import annotations

from typing import Any

import ray

from fedbus.clock import Clock
from fedbus.control.forecast.protocol import Forecast
from fedbus.control.forecast.settings import EngineSettings
from fedbus.control.lead import provisioning_lead_s
from fedbus.control.trigger import Trigger
from fedbus.options.control import ForecastingOptions
from fedbus.storage.store import Store
from fedbus_actors import remote
from fedbus_actors.forecast_request import ForecastAnswer, ForecastRequest
from fedbus_actors.region_load import RegionLoad

#: Where to look for the last creates.
DIRECTIVES = 60


class ForecastClient:
    """One region's conversation with the forecaster."""

    def __init__(self, federation: str, region: str, options: ForecastingOptions, store: Store, clock: Clock) -> None:
        self._name = remote.forecaster_name(federation)
        self._region = region
        self._options = options
        self._store = store
        self._clock = clock
        self._settings = EngineSettings(
            slot_s=options.step_ms // 1000, history_days=max(1, options.history_ms // 86_400_000),
            lead_s=options.lead_ms / 1000, models=options.models,
        )  # fmt: skip
        self._known_until_ns = 0
        self.lead_s = self._measured_lead_s()
        """What provisioning takes, as far ahead of a load as it has to be ordered for."""
        self._asked: Any = None
        self._asked_ns = -(10**20)
        self.forecast: Forecast | None = store.forecasts.latest(region)

    def step(self, load: RegionLoad, triggers: tuple[Trigger, ...]) -> None:
        """Take an answer that has come; ask again when it is time."""
        if self._asked is not None:
            ready, _ = ray.wait([self._asked], timeout=0)
            if not ready:
                return
            self._take(self._asked)
            self._asked = None
        now_ns = self._clock.now_ns()
        behind = self._known_until_ns < load.history.end_ns
        due = now_ns - self._asked_ns >= self._options.interval_ms * 1_000_000
        if not self._options.enabled or not len(load.history) or not (behind or due):
            return
        handle = remote.find(self._name)
        if handle is not None:
            self._asked_ns, self.lead_s = now_ns, self._measured_lead_s()
            self._asked = handle.forecast.remote(self._request(load, triggers, now_ns))

    def _request(self, load: RegionLoad, triggers: tuple[Trigger, ...], now_ns: int) -> ForecastRequest:
        return ForecastRequest(
            self._region, load.slot_s, self._known_until_ns, load.since(self._known_until_ns), triggers, now_ns,
            self._options.horizon_ms / 1000, self.lead_s, self._settings,
        )  # fmt: skip

    def _measured_lead_s(self) -> float:
        newest = self._store.directives.recent(self._region, DIRECTIVES)
        return provisioning_lead_s(newest, self._options.lead_ms / 1000, self._options.horizon_ms / 2000)

    def _take(self, reference: Any) -> None:
        try:
            answer: ForecastAnswer = ray.get(reference)
        except Exception:  # noqa: BLE001 - whatever happened to the forecaster: begin anew with it
            self._known_until_ns = 0
            return
        self._known_until_ns = answer.known_until_ns
        if answer.forecast is not None:
            self.forecast = answer.forecast
            self._store.forecasts.record(answer.forecast)
