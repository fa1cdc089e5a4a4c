"""Demand: the load a region must be ready to hold, from each source that may ask for capacity, with the source's words.

The need is the largest of: what is observed, the forecast's quantile over the time provisioning takes, announced
triggers, a lost neighbour's share, and all that with the share of the largest neighbour that could be lost. A source
that cannot be trusted (stale, not finite, of another region) is left out and said so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedbus.control.load import NS_PER_S
from fedbus.control.neighbour import cut_off, reserved, taken_over
from fedbus.control.trigger import triggers_for
from fedbus.control.wish import Demand, clock_time, is_rate, rate

if TYPE_CHECKING:
    from fedbus.control.forecast.protocol import Forecast
    from fedbus.control.sla import SlaRequirements
    from fedbus.control.view import PlanSettings, RegionView

__all__ = ["Demand", "PredictedLoad", "clock_time", "predict_event_load", "rate"]


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
    level = requirements.quantile
    near, far = (_expected(view, forecast, now_ns, now_ns + span_ns + 1, level) for span_ns in (lead_ns, ahead_ns))
    demands += [*near, *taken_over(view, now_ns, settings)]
    if cut_off(view, now_ns, settings):
        notes.append("most neighbours were lost at once: this region is rather cut off, and expects none of their load")
    demands += reserved(view, demands, now_ns, settings)
    far += reserved(view, far, now_ns, settings)
    if forecast is None and triggers_for(view.region, view.triggers, now_ns, now_ns + 1):
        # What the trigger's floor would be reckoned from is not known: keep what there is.
        notes.append("a trigger is under way and there is no forecast")
        trusted = False
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


def _expected(view: RegionView, forecast: Forecast | None, start_ns: int, end_ns: int, quantile: float) -> list[Demand]:
    """What forecast and triggers ask for in the window: at most one demand each, the largest."""
    if forecast is None:
        return _announced_without_forecast(view, start_ns, end_ns)
    bytes_per_event = _bytes_per_event(view)
    level = forecast.level(quantile)
    path = forecast.quantiles[level]
    found: list[Demand] = []
    slots = forecast.slots_between(start_ns, end_ns)
    if slots and forecast.basis == "model":
        peak = max(slots, key=lambda slot: path[slot])
        at_ns, eps = max(start_ns, forecast.slot_start_ns(peak)), path[peak]
        why = f"forecast ({forecast.model}, q={level:g}) needs {rate(eps)} at {clock_time(at_ns)}"
        found.append(Demand("forecast", eps, eps * bytes_per_event, at_ns, why))
    trigger = _announced(view, forecast, slots, level)
    return [*found, trigger] if trigger else found


def _announced(view: RegionView, forecast: Forecast, slots: range, level: float) -> Demand | None:
    """The largest load that triggers make one expect in the slots."""
    if not slots:
        return None
    start_ns, slot_ns = forecast.slot_start_ns(slots[0]), forecast.slot_s * NS_PER_S
    raised: list[tuple[float, int, str]] = []
    for trigger in triggers_for(view.region, view.triggers, start_ns, forecast.slot_start_ns(slots[-1] + 1)):
        # Once it runs, the forecast's level contains its effect; the usual load at that time of day does not.
        under_way = trigger.start_ns <= forecast.made_at_ns
        base = forecast.normal_eps if under_way else forecast.quantiles[level]
        for slot in slots:
            at_ns = forecast.slot_start_ns(slot)
            if trigger.overlaps(at_ns, at_ns + slot_ns):
                raised.append((trigger.raised(base[slot]), max(at_ns, trigger.start_ns), trigger.title))
    if not raised:
        return None
    eps, at_ns, title = max(raised, key=lambda each: (each[0], -each[1]))
    why = f"trigger {title!r} is expected to bring {rate(eps)} at {clock_time(at_ns)}"
    return Demand("trigger", eps, eps * _bytes_per_event(view), at_ns, why)


def _announced_without_forecast(view: RegionView, start_ns: int, end_ns: int) -> list[Demand]:
    """Triggers still to begin raise the observed load; of one under way the observed load already shows the effect."""
    observed = view.observed
    if observed is None or not is_rate(observed.eps):
        return []
    announced = triggers_for(view.region, view.triggers, start_ns, end_ns)
    raised = [(each.raised(observed.eps), each.id, each) for each in announced if each.start_ns > observed.at_ns]
    if not raised:
        return []
    eps, _, trigger = max(raised, key=lambda entry: entry[:2])
    why = f"trigger {trigger.title!r} is expected to bring {rate(eps)} at {clock_time(trigger.start_ns)}"
    return [Demand("trigger", eps, eps * _bytes_per_event(view), trigger.start_ns, why)]


def _bytes_per_event(view: RegionView) -> float:
    observed = view.observed
    return observed.bps / observed.eps if observed is not None and observed.eps > 0 and is_rate(observed.bps) else 0.0
