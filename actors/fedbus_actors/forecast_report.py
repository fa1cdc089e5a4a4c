"""What a manager tells people about load and forecast, capacity and decisions, triggers: one resource, for one picture.

The shape is that of ``fedbus_serve.views.ForecastView``, as plain dicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from fedbus.clock import NS_PER_S
from fedbus.control.expected import Expected
from fedbus.control.forecast.protocol import Forecast
from fedbus.event import format_time_ns
from fedbus_actors.region_capacity import SHOWN_NS

if TYPE_CHECKING:
    from fedbus_actors.region import Region

MOST_POINTS = 700


def forecast_view(region: Region, quantile: float, directives: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Load as it was, as it is expected, the capacity there was for it, and what was decided and why.

    ``quantile``: the one the SLAs imply; ``directives``: the newest, as views.
    """
    now_ns, slot_s = region.clock.now_ns(), region.load.slot_s
    history = list(region.load.history.samples())[-SHOWN_NS // NS_PER_S // slot_s :]
    began = format_time_ns(now_ns - SHOWN_NS)
    forecast, decision = region.forecasts.forecast, region.decision
    return {
        "region": region.name,
        "as_of": format_time_ns(now_ns),
        "history": [[format_time_ns(s.time_ns), round(s.events / slot_s, 3)] for s in _thinned(history)],
        "capacity": [
            [format_time_ns(step.time_ns), step.capacity_eps] for step in list(region.capacity.steps)[-MOST_POINTS:]
        ],
        "required_eps": region.required_eps,
        "why": region.explanation,
        "decision": msgspec.to_builtins(decision) if decision is not None else None,
        "decisions": [each for each in directives if each["created"] >= began],
        "triggers": [trigger_view(each, now_ns) for each in region.expected],
        **_expected_load(forecast, quantile),
    }


def _expected_load(forecast: Forecast | None, quantile: float) -> dict[str, Any]:
    if forecast is None:
        return {"forecast": [], "quantile": quantile, "basis": "reactive: no forecast yet"}
    level = forecast.level(quantile)
    lower = forecast.quantiles[min(forecast.quantiles)]
    band = [
        [format_time_ns(forecast.slot_start_ns(i)), round(mean, 3), round(min(mean, low), 3), round(high, 3)]
        for i, (mean, low, high) in enumerate(zip(forecast.point_eps, lower, forecast.quantiles[level], strict=True))
    ]
    return {
        "made_at": format_time_ns(forecast.made_at_ns),
        "model": forecast.model,
        "basis": "forecast" if forecast.basis == "model" else f"reactive: {forecast.note}",
        "mase": forecast.mase,
        "scores": forecast.scores,
        "quantile": level,
        "forecast": band,
    }


def trigger_view(expected: Expected, now_ns: int) -> dict[str, Any]:
    """One occurrence of a trigger: its window, the load expected of it, and on what that rests."""
    slot_ns = expected.slot_s * NS_PER_S
    asked = [place for place, eps in enumerate(expected.eps) if eps > 0] or [0]
    starts_ns = expected.start_ns + asked[0] * slot_ns
    ends_ns = expected.start_ns + (asked[-1] + 1) * slot_ns
    return {
        "trigger": expected.trigger,
        "title": expected.title,
        "origin": expected.origin,
        "state": "coming" if now_ns < starts_ns else "under way" if now_ns < ends_ns else "over",
        "starts": format_time_ns(starts_ns),
        "ends": format_time_ns(ends_ns),
        "peak_eps": round(max(expected.eps, default=0.0), 3),
        "why": expected.why,
        "confidence": expected.confidence,
    }


def _thinned(points: Sequence[Any]) -> Sequence[Any]:
    """At most so many points, the newest kept."""
    step = -(-len(points) // MOST_POINTS) or 1
    return points[::-1][::step][::-1]
