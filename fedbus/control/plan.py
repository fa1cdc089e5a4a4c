"""The plan: from a view of the regions to directives, with the reason for each.

The need is the largest of observed load, forecast, triggers and minimum, clamped, plus spares, in instances of the
size that costs least. Scaling out follows it at once; scaling in is slower (never below the largest need of the
stabilisation window nor below what the forecast shows ahead, one at a time), and does not happen on missing metrics.
Instances of another size are replaced one by one while nothing else is to be done. When many instances vanish at once
it holds for a while. The five functions are the steps of the manager's tick, in order; :func:`plan` runs them. A plan
never decides who owns a ledger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from fedbus.control.brake import many
from fedbus.control.capacity import Capacity, InstanceSize, current_capacity
from fedbus.control.decision import Decision
from fedbus.control.demand import predict_event_load, rate
from fedbus.control.directive import Action, Cause, Directive
from fedbus.control.inventory import Inventory
from fedbus.control.load import NS_PER_S
from fedbus.control.neighbour import lately_lost, own_load
from fedbus.control.requirement import RequiredCapacity, calculate_required_bus_capacity, decide
from fedbus.control.sla import SlaRequirements, required_quantile, target_utilization, violation_budget
from fedbus.control.view import InstanceView, Memory, PlanSettings, RegionView, View

__all__ = [
    "Plan",
    "RegionPlan",
    "RequiredCapacity",
    "calculate_required_bus_capacity",
    "calculate_scaling_directives",
    "get_current_bus_capacity",
    "plan",
    "predict_event_load",
    "retrieve_sla_requirements",
]

_ROUNDING = 1e-9
_LEAST_TO_GIVE_ONE = 2


class RegionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do in one region: new directives, pending ones (ids) to supersede, and why, in words and as data.

    ``memory`` is for the next view.
    """

    region: str
    directives: tuple[Directive, ...]
    superseded: tuple[str, ...]
    target: int
    explanation: str
    decision: Decision
    memory: Memory


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of one tick over all regions of a view."""

    generation: int
    made_at_ns: int
    regions: tuple[RegionPlan, ...]

    @property
    def directives(self) -> tuple[Directive, ...]:
        """All new directives, region by region."""
        return tuple(directive for region in self.regions for directive in region.directives)

    @property
    def explanation(self) -> dict[str, str]:
        """One sentence per region: what is needed, what is there, what is done."""
        return {region.region: region.explanation for region in self.regions}


def plan(view: View) -> Plan:
    """Plan every region of the view; the same view gives the same plan."""
    return Plan(
        generation=view.generation,
        made_at_ns=view.now_ns,
        regions=tuple(_plan_region(region, view.now_ns, view.generation, view.settings) for region in view.regions),
    )


def _plan_region(view: RegionView, now_ns: int, generation: int, settings: PlanSettings) -> RegionPlan:
    requirements = retrieve_sla_requirements(view)
    predicted = predict_event_load(view, now_ns, requirements, settings)
    required = calculate_required_bus_capacity(view, now_ns, predicted, requirements, settings)
    capacity = get_current_bus_capacity(view, now_ns, settings, required.size)
    return calculate_scaling_directives(view, now_ns, generation, required, capacity, settings)


def retrieve_sla_requirements(view: RegionView) -> SlaRequirements:
    """The violation budget, the forecast quantile by rule and the utilisation that the region's SLAs imply."""
    utilization = target_utilization(view.slas) if view.target_utilization is None else view.target_utilization
    budget = violation_budget(view.slas)
    return SlaRequirements(required_quantile(view.slas), utilization, budget, view.memory.assured(budget))


def get_current_bus_capacity(view: RegionView, now_ns: int, settings: PlanSettings, unit: InstanceSize) -> Capacity:
    """What is in service, and what is on its way: starting, ordered, or silent for a moment only; in ``unit``."""
    inventory = Inventory(view, now_ns, settings, unit)
    sizes = {size.name: size for size in view.sizes}
    return current_capacity((each.size for each in inventory.serving), inventory.coming(), sizes, unit)


def calculate_scaling_directives(
    view: RegionView,
    now_ns: int,
    generation: int,
    required: RequiredCapacity,
    capacity: Capacity,
    settings: PlanSettings,
) -> RegionPlan:
    """Directives that lead from the current to the required capacity, or the reason to hold."""
    draft = _Draft(view, now_ns, generation, required, capacity, settings)
    memory = view.memory
    vanished = draft.inventory.vanished()
    brake_since_ns = memory.brake_since_ns
    if brake_since_ns is None and many(len(vanished), len(memory.in_service), settings.brake_share):
        brake_since_ns = now_ns
    braking = (
        brake_since_ns is not None
        and bool(vanished)
        and now_ns - brake_since_ns < settings.brake_s * NS_PER_S
        and not required.overridden
    )
    if braking:
        draft.hold(f"{len(vanished)} of {len(memory.in_service)} instances vanished at once, holding")
    elif required.target > draft.present:
        draft.scale_out()
    else:
        draft.scale_in()
    return draft.finished(brake_since_ns if braking else None)


class _Draft:
    """The plan of one region in the making."""

    def __init__(
        self,
        view: RegionView,
        now_ns: int,
        generation: int,
        required: RequiredCapacity,
        capacity: Capacity,
        settings: PlanSettings,
    ) -> None:
        self.view, self.now_ns, self.generation = view, now_ns, generation
        self.required, self.capacity, self.settings = required, capacity, settings
        self.directives: list[Directive] = []
        self.superseded: list[str] = []
        self.said: list[str] = []
        self.inventory = Inventory(view, now_ns, settings, required.size)
        self.serving = self.inventory.serving
        self.unit = required.size
        self.present = math.floor(capacity.instances + capacity.coming + _ROUNDING)
        """Whole instances (of the size in force) in service or on their way."""
        self.decision = decide(view, required, capacity, settings)

    def hold(self, why: str) -> None:
        """Do nothing, and say why."""
        self.said.append(why)

    def scale_out(self) -> None:
        """Order what is missing, instance by instance, each with the source that asks for it."""
        memory, target = self.view.memory, self.required.target
        waited_ns = self.now_ns - (memory.ordered_out_ns or 0)
        pause_ns = self.settings.scale_out_pause_s * NS_PER_S
        if target <= self.required.owed and memory.ordered_out_ns and waited_ns < pause_ns:
            self.hold("the same need was ordered a moment ago")
            return
        room = self.view.maximum - len(self.serving) - self.capacity.ordered
        missing = min(target - self.present, room)
        if missing <= 0:
            self._make_room()
            return
        lost = self.inventory.lost()
        in_service = rate(self.capacity.eps * self.required.target_utilization)
        for level in range(self.present + 1, self.present + missing + 1):
            cause, why = self._asks_for(level, lost)
            reason = f"{why}, capacity in service {in_service} → create {missing}"
            self._order("create", None, self.unit.name, cause, reason)
        self.said.append(f"create {missing}")

    def _make_room(self) -> None:
        """All places are taken, some by instances that hold less than one of the size in force: one gives way."""
        worth = self.inventory.worth
        smallest = min(self.serving, key=lambda each: (worth(each), each.load_eps, each.id), default=None)
        if smallest is None or worth(smallest) > 1 - _ROUNDING or len(self.serving) < _LEAST_TO_GIVE_ONE:
            self.hold(f"there are {self.view.maximum} instances, the most there may be")
        elif self.capacity.ordered or self.inventory.under_way_out():
            self.hold("one instance is being replaced by a larger one")
        else:
            reason = f"{self.view.maximum} instances are the most there may be, and {self.unit.name} holds more"
            self._order("drain", smallest.id, smallest.size, "replacement", f"{reason} → drain {smallest.id}")
            self.said.append(f"drain {smallest.id} to make room for {self.unit.name}")

    def scale_in(self) -> None:
        """Take back orders not begun, else drain, else replace; hold wherever that could be wrong."""
        surplus = self.present - self.required.floor
        others = self.inventory.others()
        replacing = bool(others) and self._replaceable(others)
        if surplus <= 0 and not replacing:
            return
        why = self._forbids_scale_in()
        if why:
            self.hold(why)
            return
        unbegun = [
            each.id
            for each in self.view.pending
            if each.action == "create" and each.status == "ordered" and not (replacing and each.cause == "replacement")
        ]
        self.superseded += unbegun[: max(0, surplus)]
        if self.superseded:
            self.said.append(f"take back {len(self.superseded)} orders not begun")
        elif self.capacity.coming:
            self.hold("no scale-in while instances are starting")
        elif not self._drain(others if replacing else self.serving) and replacing:
            self._replace(others)

    def finished(self, brake_since_ns: int | None) -> RegionPlan:
        """The plan, with what the next one must remember."""
        memory, view = self.view.memory, self.view
        creates = sum(each.action == "create" for each in self.directives)
        drains = len(self.directives) - creates
        serving = tuple(each.id for each in self.serving if all(each.id != d.instance for d in self.directives))
        return RegionPlan(
            region=view.region,
            directives=tuple(self.directives),
            superseded=tuple(self.superseded),
            target=self.required.target,
            explanation=self._explanation(),
            decision=self.decision,
            memory=msgspec.structs.replace(
                memory,
                needs=self.required.needs,
                # An order that was held back (a pause, the brake) is still owed.
                target=max(self.present + creates - drains, min(self.required.owed, self.required.target)),
                unit=self.unit.name,
                in_service=memory.in_service if brake_since_ns is not None else serving,
                ordered_out_ns=self.now_ns if creates else memory.ordered_out_ns,
                ordered_in_ns=self.now_ns if drains else memory.ordered_in_ns,
                brake_since_ns=brake_since_ns,
                began_ns=self.now_ns if memory.began_ns is None else memory.began_ns,
                alone=own_load(view, self.now_ns, self.settings),
                sizing=self.required.choice.memory,
                assurance=memory.assured(self.required.violation_budget),
            ),
        )

    def _asks_for(self, level: int, lost: int) -> tuple[Cause, str]:
        """The cause of having the ``level``-th instance."""
        source = next((each for each in self.required.levels if each.instances >= level), self.required.levels[-1])
        why = self.required.reckoned(source, self.settings.spare_instances)
        if lost and level <= self.required.owed and source.cause != "override":
            return "repair", f"{lost} of the region's instances {'is' if lost == 1 else 'are'} lost, {why}"
        return source.cause, why

    def _forbids_scale_in(self) -> str | None:
        """Why nothing may be drained now, or None."""
        memory, settings = self.view.memory, self.settings
        if self.required.overridden:
            return None
        if not self.required.trusted:
            return "no scale-in without complete metrics"
        if any(each.state == "unreachable" for each in self.view.instances):
            return "no scale-in while an instance is unreachable"
        if lately_lost(self.view, self.now_ns, settings):
            return "no scale-in while a neighbour was lost a short while ago"
        began_ns = self.now_ns if memory.began_ns is None else memory.began_ns
        if self.now_ns - began_ns < settings.scale_in_window_s * NS_PER_S:
            return "no scale-in before the load was watched for a whole window"
        last_ns = memory.ordered_in_ns
        if last_ns is not None and self.now_ns - last_ns < settings.scale_in_pause_s * NS_PER_S:
            return "the last scale-in was a moment ago"
        return None

    def _drain(self, candidates: Sequence[InstanceView]) -> bool:
        """Order the best candidates to drain, at most a step at a time, never a region's last; whether any was."""
        under_way = self.inventory.under_way_out()
        left, keep = self.capacity.instances, max(1, 0 if self.required.overridden else self.view.minimum)
        for instance in sorted(candidates, key=self._drain_order):
            if under_way + len(self.directives) >= self.settings.scale_in_step:
                break
            if len(self.serving) - len(self.directives) <= keep:
                break
            share = self.inventory.worth(instance)
            if left - share + _ROUNDING < self.required.floor:
                continue
            left -= share
            self._order("drain", instance.id, instance.size, *self._lets_go(instance))
        drained = ", ".join(str(each.instance) for each in self.directives)
        if drained:
            self.said.append(f"drain {drained}")
        elif self.present > self.required.floor:
            self.said.append("nothing can be drained: one is draining, or the rest is needed")
        return bool(drained)

    def _drain_order(self, instance: InstanceView) -> tuple[bool, bool, float, int, str]:
        """Another size first, then degraded ones, the least loaded, the youngest (it holds the shortest ledgers)."""
        other = instance.size != self.unit.name
        return (not other, instance.state != "degraded", instance.load_eps, -instance.since_ns, instance.id)

    def _lets_go(self, instance: InstanceView) -> tuple[Cause, str]:
        """The cause of draining one, and the reason."""
        cause: Cause = "override" if self.required.overridden else "scale_in"
        minutes = self.settings.scale_in_window_s / 60
        why = f"{self.required.floor} hold the load of the last {minutes:g} min and the load forecast"
        why = self.required.levels[0].why if self.required.overridden else why
        return cause, f"{why}, {len(self.serving)} in service → drain {instance.id}"

    def _replaceable(self, others: Sequence[InstanceView]) -> bool:
        """Whether there is room for as many new instances as let the smallest of another size go."""
        smallest = min(self.inventory.worth(each) for each in others)
        left = self.capacity.instances + self.capacity.coming - smallest
        enough = math.ceil(self.required.floor - left - _ROUNDING)
        room = self.view.maximum - len(self.serving) - self.capacity.ordered
        return not self.required.overridden and (enough <= 0 or enough <= room)

    def _replace(self, others: Sequence[InstanceView]) -> None:
        """Order one of the size in force, so that one of another size can go later."""
        if self.inventory.under_way_out():
            return
        names = ", ".join(sorted({each.size for each in others}))
        what = f"{len(others)} of {len(self.serving)} in service are {names}, and {self.required.choice.why}"
        self._order("create", None, self.unit.name, "replacement", f"{what} → create 1 to replace one")
        self.said.append(f"create 1 {self.unit.name} to replace {names}")

    def _order(self, action: Action, instance: str | None, size: str, cause: Cause, reason: str) -> None:
        self.directives.append(
            Directive(
                id=f"{self.view.region}/{self.generation}/{len(self.directives)}",
                region=self.view.region,
                action=action,
                instance=instance,
                size=size,
                cause=cause,
                reason=reason,
                ordered_at_ns=self.now_ns,
                plan_generation=self.generation,
                decision=self.decision,
            )
        )

    def _explanation(self) -> str:
        why = self.required.reckoned(self.required.decisive, self.settings.spare_instances)
        here = f"{self.capacity.in_service} in service" + (
            f", {self.capacity.coming:g} coming" if self.capacity.coming else ""
        )
        head = f"{self.required.target} × {self.unit.name} needed ({why}); {here}"
        sizes = [self.required.choice.words] if len(self.required.choice.considered) > 1 else []
        return "; ".join([head, *(self.said or ["nothing to do"]), *sizes, *self.required.notes])
