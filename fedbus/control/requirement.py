"""The requirement: how many instances of which size a region must have for the loads predicted, and who asks for each.

Every source's wish is kept with its words, so that each directive can say why it was given.
"""

from __future__ import annotations

import math

import msgspec

from fedbus.control.capacity import Capacity, InstanceSize, required_capacity, worth
from fedbus.control.decision import Cause, Decision, Level
from fedbus.control.demand import PredictedLoad, clock_time
from fedbus.control.load import NS_PER_S
from fedbus.control.scaling import Bounds, Need, scale
from fedbus.control.sizing import SizeChoice, choose_size
from fedbus.control.sla import SlaRequirements
from fedbus.control.view import PlanSettings, RegionView
from fedbus.control.wish import rate

__all__ = ["PRECEDENCE", "Level", "RequiredCapacity", "calculate_required_bus_capacity", "decide"]

#: Who is named when several sources ask for the same instance: measured load before expected load.
PRECEDENCE: tuple[Cause, ...] = ("override", "minimum", "reactive", "forecast", "trigger", "neighbour")
_ROUNDING = 1e-9


class RequiredCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """Instances to have now (``target``), and the number below which nothing may be drained (``floor``).

    Both in instances of the size chosen, of which one is planned for ``size_eps`` (its share at the utilisation).
    """

    target: int
    floor: int
    levels: tuple[Level, ...]
    needs: tuple[Need, ...]
    trusted: bool
    overridden: bool
    target_utilization: float
    violation_budget: float
    choice: SizeChoice
    owed: int
    """The target of the previous plan, in instances of the size chosen now."""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> InstanceSize:
        """The size in force: what is ordered, and what instances are counted in."""
        return self.choice.size

    @property
    def decisive(self) -> Level:
        """The wish that decides."""
        return max(self.levels, key=lambda level: level.instances)

    @property
    def follows_forecast(self) -> bool:
        """Whether the forecast had its say and nothing stood against it: no order by hand, no maximum."""
        forecast = any(level.cause == "forecast" for level in self.levels)
        return forecast and self.trusted and not self.overridden and self.decisive.instances <= self.target

    def reckoned(self, level: Level, spare: int) -> str:
        """The level's words and, of a load, how it comes to its number of instances."""
        if not (level.eps or level.bps):
            return level.why
        size, utilization = self.size, self.target_utilization
        by_bytes = level.bps / size.bytes_per_s > level.eps / size.events_per_s
        each = f"{size.bytes_per_s * utilization / 1e6:.3g} MB/s" if by_bytes else rate(size.events_per_s * utilization)
        load = f" ({level.bps / 1e6:.3g} MB/s)" if by_bytes else ""
        spares = f" + {spare} spare" if spare else ""
        return f"{level.why}{load} = {level.instances - spare} × {each}{spares}"


def calculate_required_bus_capacity(
    view: RegionView, now_ns: int, predicted: PredictedLoad, requirements: SlaRequirements, settings: PlanSettings
) -> RequiredCapacity:
    """The size to count in, the instances of it every source asks for, the largest of them, and the scale-in floor."""
    utilization = requirements.target_utilization
    override = view.active_override(now_ns)
    bounds = Bounds(
        0 if override is not None else view.minimum, view.maximum, 0, round(settings.scale_in_window_s * NS_PER_S)
    )
    choice = _size(view, now_ns, predicted, utilization, settings)
    size = choice.size

    def instances(eps: float, bps: float) -> int:
        return required_capacity(eps, bps, size, utilization) + settings.spare_instances

    levels = [Level("minimum", view.minimum, f"the region's minimum is {view.minimum}")]
    levels += [Level(d.cause, instances(d.eps, d.bps), d.why, d.eps, d.bps, d.at_ns) for d in predicted.demands]
    ahead = max((instances(each.eps, each.bps) for each in predicted.ahead), default=0)
    if override is not None:
        why = f"{override.by} asked for {override.instances} until {clock_time(override.expires_ns)}"
        levels, ahead = [Level("override", max(1, override.instances), why)], 0
    wanted = max(level.instances for level in levels)
    notes = list(predicted.notes)
    if wanted > view.maximum:
        notes.append(f"{wanted} are needed, the region's maximum is {view.maximum}")
    remembered, owed = _in_units(view, size)
    scaled = scale(now_ns, wanted, ahead, remembered, bounds)
    return RequiredCapacity(
        target=scaled.target,
        floor=scaled.target if override is not None else scaled.floor,
        levels=tuple(sorted(levels, key=lambda level: PRECEDENCE.index(level.cause))),
        needs=scaled.recent,
        trusted=predicted.trusted,
        overridden=override is not None,
        target_utilization=utilization,
        violation_budget=requirements.violation_budget,
        choice=choice,
        owed=owed,
        notes=tuple(notes),
    )


def _size(
    view: RegionView, now_ns: int, predicted: PredictedLoad, utilization: float, settings: PlanSettings
) -> SizeChoice:
    """An operator's size or the only one as it is, else the one that costs least for all loads to be ready for."""
    override, memory = view.active_override(now_ns), view.memory.sizing
    sizes, preferred = view.sizes, view.new_size(now_ns)
    if override is not None or not settings.choose_size:
        if override is None:
            preferred = next((size for size in view.sizes if size.name == view.size), view.sizes[0])
        sizes = (preferred,)
    loads = [(each.eps, each.bps) for each in (*predicted.demands, *predicted.ahead)]
    bounds = Bounds(view.minimum, view.maximum, settings.spare_instances)
    choice = choose_size(now_ns, loads, sizes, utilization, bounds, memory, preferred.name)
    if override is not None:
        who = f"{override.by} asked for it" if override.size == preferred.name else "it stays while an operator decides"
        return SizeChoice(preferred, who, choice.considered, memory)
    return choice


def _in_units(view: RegionView, size: InstanceSize) -> tuple[tuple[Need, ...], int]:
    """What the memory holds of needs and of the target, in instances of ``size``."""
    memory = view.memory
    before = next((each for each in view.sizes if each.name == memory.unit), size)
    if before.name == size.name:
        return memory.needs, memory.target
    factor = worth(before, size)

    def converted(count: int) -> int:
        return math.ceil(count * factor - _ROUNDING)

    needs = tuple(Need(need.at_ns, min(view.maximum, converted(need.instances))) for need in memory.needs)
    return needs, converted(memory.target)


def decide(view: RegionView, required: RequiredCapacity, capacity: Capacity, settings: PlanSettings) -> Decision:
    """Why the region is to have what it is to have, as data."""
    calibrations = view.memory.calibrations
    sizes = tuple(
        msgspec.structs.replace(each, basis=calibrations[each.size].basis) if each.size in calibrations else each
        for each in required.choice.considered
    )
    return Decision(
        target=required.target,
        floor=required.floor,
        size=required.size.name,
        size_why=required.choice.why,
        cost_per_hour=required.target * required.size.cost,
        in_service=capacity.instances,
        coming=capacity.coming,
        minimum=view.minimum,
        maximum=view.maximum,
        spare=settings.spare_instances,
        utilization=required.target_utilization,
        violation_budget=required.violation_budget,
        planned_budget=view.memory.assured(required.violation_budget).planned_budget,
        minutes_seen=view.memory.violations.minutes,
        minutes_violated=view.memory.violations.violated,
        levels=required.levels,
        sizes=sizes,
        notes=required.notes,
    )
