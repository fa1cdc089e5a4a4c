"""Wishes: the load one source asks a region to be ready for, in numbers and in words."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import msgspec

from fedbus.control.directive import Cause
from fedbus.control.load import NS_PER_S


class Demand(msgspec.Struct, frozen=True):
    """One source's load: cause, rates, the time it is for, and a clause such as "forecast (arima, q=0.95) needs …"."""

    cause: Cause
    eps: float
    bps: float
    at_ns: int
    why: str


def rate(eps: float) -> str:
    """A rate for people: ``950 events/s``, ``3.4k events/s``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if eps >= limit:
            return f"{eps / limit:.3g}{unit} events/s"
    return f"{eps:.3g} events/s"


def clock_time(time_ns: int) -> str:
    """Time of day in UTC, for people: ``14:25``."""
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC).strftime("%H:%M")


def is_rate(value: float) -> bool:
    """Whether a number can be a rate at all."""
    return math.isfinite(value) and value >= 0
