"""What a region's manager asks of the forecaster, and the answer; light, because both sides import it."""

from __future__ import annotations

import msgspec

from fedbus.control.forecast.protocol import Forecast
from fedbus.control.forecast.settings import EngineSettings
from fedbus.control.load import LoadSample
from fedbus.control.trigger import Trigger


class ForecastRequest(msgspec.Struct, frozen=True):
    """What a region asks: ``samples`` from ``known_until_ns`` on (0: all there is), and how far to look.

    ``lead_s``: what provisioning takes now, by which models are compared.
    """

    region: str
    slot_s: int
    known_until_ns: int
    samples: list[LoadSample]
    triggers: tuple[Trigger, ...]
    now_ns: int
    horizon_s: float
    lead_s: float
    settings: EngineSettings


class ForecastAnswer(msgspec.Struct, frozen=True):
    """``known_until_ns``: up to where the forecaster has the history now.

    ``forecast`` is None if that is not enough.
    """

    known_until_ns: int
    forecast: Forecast | None
