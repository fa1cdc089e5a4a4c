"""Demand: the load a region must be ready to hold, from each source that may ask for capacity, with the source's words.

The need is the largest of: what is observed, what the forecast asks for over the time provisioning takes, what
triggers are expected to bring, a lost neighbour's share, and all that with the share of the largest neighbour that
could be lost. A source that cannot be trusted (stale, not finite, of another region) is left out and said so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedbus.control.expected import largest
from fedbus.control.load import NS_PER_S
from fedbus.control.neighbour import cut_off, reserved, taken_over
from fedbus.control.wish import Demand, clock_time, is_rate, rate

if TYPE_CHECKING:
    from fedbus.control.forecast.protocol import Forecast
    from fedbus.control.sla import SlaRequirements
    from fedbus.control.view import PlanSettings, RegionView

__all__ = ["Demand", "PredictedLoad", "clock_time", "predict_event_load", "rate"]

#: A mean beyond this is an artefact of hardly any events.
LARGEST_EVENT_BYTES = 1e9


class PredictedLoad(msgspec.Struct, frozen=True, kw_only=True):
    """All demands over the provisioning lead, those that only forbid scale-in (further ahead), and what was left out.

    ``trusted``: the observed load is known and complete, so that scaling in on it is safe.
    """

    demands: tuple[Demand, ...]
    ahead: tuple[Demand, ...]
    trusted: bool
    notes: tuple[str, ...] = ()


def predict_event_load(
    view: RegionView, now_ns: int, requirements: SlaRequirements, settings: PlanSettings
) -> PredictedLoad:
    """The loads a region must be ready for: now, within the provisioning lead, and (against scale-in) further ahead."""
    notes: list[str] = []
    forecast = _usable_forecast(view, now_ns, settings, notes)
    demands: list[Demand] = []
    observed = view.observed
    fresh = observed is not None and now_ns - observed.at_ns <= settings.metrics_max_age_s * NS_PER_S
    if observed is not None and fresh and is_rate(observed.eps) and is_rate(observed.bps):
        demands.append(
            Demand("reactive", observed.eps, observed.bps, observed.at_ns, f"observed load is {rate(observed.eps)}")
        )
    if not demands or not view.metrics_complete:
        notes.append("metrics are missing" if not demands else "metrics are incomplete")
    trusted = bool(demands) and view.metrics_complete
    # What is ordered now serves from now + lead on, so the slot that begins just then counts.
    lead_ns = round(view.provisioning_lead_s * NS_PER_S)
    ahead_ns = max(lead_ns, round(settings.scale_in_lookahead_s * NS_PER_S))
    near, far = (
        _expected(view, forecast, now_ns, now_ns + span_ns + 1, requirements) for span_ns in (lead_ns, ahead_ns)
    )
    demands += [*near, *taken_over(view, now_ns, settings)]
    if cut_off(view, now_ns, settings):
        notes.append("most neighbours were lost at once: this region is rather cut off, and expects none of their load")
    demands += reserved(view, demands, now_ns, settings)
    far += reserved(view, far, now_ns, settings)
    return PredictedLoad(demands=tuple(demands), ahead=tuple(far), trusted=trusted, notes=tuple(notes))


def _usable_forecast(view: RegionView, now_ns: int, settings: PlanSettings, notes: list[str]) -> Forecast | None:
    forecast = view.forecast
    if forecast is None:
        notes.append("there is no forecast")
        return None
    age_s = (now_ns - forecast.made_at_ns) / NS_PER_S
    if forecast.region != view.region:
        notes.append(f"the forecast is for {forecast.region}")
    elif age_s > settings.forecast_max_age_s:
        notes.append(f"the forecast is {age_s:.0f} s old")
    elif age_s < -settings.forecast_max_age_s:
        notes.append("the forecast is from the future")
    elif not forecast.sane:
        notes.append("the forecast is not a finite rate everywhere")
    elif forecast.end_ns <= now_ns:
        notes.append("the forecast has run out")
    else:
        return forecast
    return None


def _expected(
    view: RegionView, forecast: Forecast | None, start_ns: int, end_ns: int, requirements: SlaRequirements
) -> list[Demand]:
    """What forecast and triggers ask for in the window: at most one demand each, the largest."""
    bytes_per_event = _bytes_per_event(view)
    found: list[Demand] = []
    if forecast is not None and forecast.basis == "model" and forecast.slots_between(start_ns, end_ns):
        eps, at_ns, level = _needed(forecast, start_ns, end_ns, requirements)
        why = f"forecast ({forecast.model}, q={level:.4g}) needs {rate(eps)} at {clock_time(at_ns)}"
        found.append(Demand("forecast", eps, eps * bytes_per_event, at_ns, why))
    trigger = largest(view.expected, start_ns, end_ns)
    if trigger is not None and is_rate(trigger[0]):
        eps, at_ns, why = trigger
        found.append(Demand("trigger", eps, eps * bytes_per_event, at_ns, why))
    return found


def _needed(forecast: Forecast, start_ns: int, end_ns: int, requirements: SlaRequirements) -> tuple[float, int, float]:
    """The largest need (events/s) of the slots, when, and the quantile that it is."""
    if requirements.assurance is not None:
        return requirements.assurance.required_eps(forecast, start_ns, end_ns)
    level = forecast.level(requirements.quantile)
    path = forecast.quantiles[level]
    peak = max(forecast.slots_between(start_ns, end_ns), key=path.__getitem__)
    return path[peak], max(start_ns, forecast.slot_start_ns(peak)), level


def _bytes_per_event(view: RegionView) -> float:
    observed = view.observed
    known = observed is not None and observed.eps > 0 and is_rate(observed.bps)
    size = observed.bps / observed.eps if observed is not None and known else 0.0
    return size if size < LARGEST_EVENT_BYTES else 0.0
