"""What a manager tells people about triggers: those announced, those detected, and what its region learned of each.

Read while the loop goes on, so it looks with an outlook of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedbus.clock import NS_PER_S
from fedbus.control.outlook import Outlook, explained
from fedbus.control.trigger import FOREVER_NS
from fedbus.event import format_time_ns

if TYPE_CHECKING:
    from fedbus.control.effect import Effect
    from fedbus.control.trigger import Trigger, Window
    from fedbus_actors.region import Region


def trigger_views(region: Region) -> list[dict[str, Any]]:
    """The triggers of a region, as fields of the control API."""
    triggers = (*region.triggers(), *region.outlook.detected)
    outlook, now_ns, history = Outlook(region.name, detect=False), region.clock.now_ns(), region.load.history
    views = []
    for each in triggers:
        concerned = each.concerns(region.name)
        effect = outlook.effect(history, triggers, each, now_ns) if concerned else None
        learned = [_learned(region.name, each, effect, history.slot_s)] if concerned else []
        views.append({**trigger_view(each, now_ns), "learned": learned})
    return views


def trigger_view(trigger: Trigger, now_ns: int) -> dict[str, Any]:
    """A trigger as it was announced or detected."""
    shown = _shown(trigger, now_ns)
    recurs = bool(trigger.cron)
    others = [] if recurs else [each for each in trigger.occurrences(0, FOREVER_NS) if each != shown]
    return {
        "id": trigger.id,
        "region": trigger.region,
        "starts": format_time_ns(shown.start_ns) if shown else None,
        "ends": format_time_ns(shown.end_ns) if shown else None,
        "windows": [{"starts": format_time_ns(each.start_ns), "ends": format_time_ns(each.end_ns)} for each in others],
        "cron": trigger.cron or None,
        "duration_ms": trigger.duration_ns // 1_000_000 if recurs else None,
        "timezone": trigger.zone,
        "valid_from": format_time_ns(trigger.start_ns) if recurs and trigger.start_ns else None,
        "valid_until": format_time_ns(trigger.end_ns) if recurs and trigger.end_ns < FOREVER_NS else None,
        "effect": trigger.expected_factor,
        "extra_eps": trigger.expected_extra_eps,
        "detected": trigger.detected,
        "confidence": trigger.confidence,
        "note": trigger.name,
    }


def _learned(region: str, trigger: Trigger, effect: Effect | None, slot_s: int) -> dict[str, Any]:
    seen = effect is not None and effect.visible
    return {
        "region": region,
        "occurrences": effect.occurrences if effect is not None else 0,
        "factor": round(effect.rise, 3) if effect is not None and seen else None,
        "minutes": effect.slots * slot_s / 60 if effect is not None and seen else None,
        "explanation": explained(trigger, effect, slot_s),
    }


def _shown(trigger: Trigger, now_ns: int) -> Window | None:
    """The occurrence under way, else the next, else the last."""
    coming = next(trigger.occurrences(now_ns, FOREVER_NS - NS_PER_S), None)
    return coming or next(iter(trigger.last_before(now_ns, 1)), None)
