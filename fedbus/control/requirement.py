"""The requirement: how many instances a region must have for the loads predicted, and who asks for each of them.

Every source's wish is kept with its words, so that each directive can say why it was given.
"""

from __future__ import annotations

import msgspec

from fedbus.control.capacity import required_capacity
from fedbus.control.demand import PredictedLoad, clock_time
from fedbus.control.directive import Cause
from fedbus.control.load import NS_PER_S
from fedbus.control.sla import SlaRequirements
from fedbus.control.view import Need, PlanSettings, RegionView

#: Who is named when several sources ask for the same instance: measured load before expected load.
PRECEDENCE: tuple[Cause, ...] = ("override", "minimum", "reactive", "forecast", "trigger", "neighbour")


class Level(msgspec.Struct, frozen=True):
    """One source's wish in instances, with its words."""

    cause: Cause
    instances: int
    why: str


class RequiredCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """Instances to have now (``target``), and the number below which nothing may be drained (``floor``)."""

    target: int
    floor: int
    levels: tuple[Level, ...]
    needs: tuple[Need, ...]
    trusted: bool
    overridden: bool
    target_utilization: float
    notes: tuple[str, ...] = ()


def calculate_required_bus_capacity(
    view: RegionView, now_ns: int, predicted: PredictedLoad, requirements: SlaRequirements, settings: PlanSettings
) -> RequiredCapacity:
    """Instances needed for the predicted load: every source's wish, the largest of them, and the floor for scale-in."""
    utilization = requirements.target_utilization
    size = view.new_size(now_ns)

    def instances(eps: float, bps: float) -> int:
        return required_capacity(eps, bps, size, utilization) + settings.spare_instances

    override = view.active_override(now_ns)
    levels = [Level("minimum", view.minimum, f"the region's minimum is {view.minimum}")]
    levels += [Level(each.cause, instances(each.eps, each.bps), each.why) for each in predicted.demands]
    if override is not None:
        why = f"{override.by} asked for {override.instances} until {clock_time(override.expires_ns)}"
        levels = [Level("override", max(1, override.instances), why)]
    wanted = max(level.instances for level in levels)
    notes = list(predicted.notes)
    if wanted > view.maximum:
        notes.append(f"{wanted} are needed, the region's maximum is {view.maximum}")
    target = min(view.maximum, wanted)
    oldest_ns = now_ns - round(settings.scale_in_window_s * NS_PER_S)
    # A need that a later one reaches can never be the window's largest again.
    needs = (
        *(n for n in view.memory.needs if oldest_ns <= n.at_ns <= now_ns and n.instances > target),
        Need(now_ns, target),
    )
    floor = target
    if override is None:
        ahead = max((instances(each.eps, each.bps) for each in predicted.ahead), default=0)
        floor = min(view.maximum, max(needs[0].instances, ahead))
    return RequiredCapacity(
        target=target,
        floor=floor,
        levels=tuple(sorted(levels, key=lambda level: PRECEDENCE.index(level.cause))),
        needs=needs,
        trusted=predicted.trusted,
        overridden=override is not None,
        target_utilization=utilization,
        notes=tuple(notes),
    )
