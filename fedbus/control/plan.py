"""The plan: from a view of the regions to directives, with the reason for each.

The need is the largest of observed load, forecast quantile, triggers and minimum, clamped, plus spares. Scaling out
follows it at once; scaling in is slower (never below the largest need of the stabilisation window nor below what the
forecast shows ahead, one at a time), and does not happen on missing metrics. When many instances vanish at once it
holds for a while. The five functions are the steps of the manager's tick, in order; :func:`plan` runs them. A plan
never decides who owns a ledger.
"""

from __future__ import annotations

import math

import msgspec

from fedbus.control.brake import many
from fedbus.control.capacity import (
    IN_SERVICE,
    Capacity,
    current_capacity,
    worth,
)
from fedbus.control.demand import predict_event_load, rate
from fedbus.control.directive import Action, Cause, Directive
from fedbus.control.load import NS_PER_S
from fedbus.control.neighbour import lately_lost, own_load
from fedbus.control.requirement import RequiredCapacity, calculate_required_bus_capacity
from fedbus.control.sla import SlaRequirements, required_quantile, target_utilization
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


class RegionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do in one region: new directives, pending ones (ids) to supersede, and why.

    ``memory`` is for the next view.
    """

    region: str
    directives: tuple[Directive, ...]
    superseded: tuple[str, ...]
    target: int
    explanation: str
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
    capacity = get_current_bus_capacity(view, now_ns, settings)
    return calculate_scaling_directives(view, now_ns, generation, required, capacity, settings)


def retrieve_sla_requirements(view: RegionView) -> SlaRequirements:
    """The forecast quantile and the utilisation that the region's SLAs imply."""
    utilization = target_utilization(view.slas) if view.target_utilization is None else view.target_utilization
    return SlaRequirements(required_quantile(view.slas), utilization)


def get_current_bus_capacity(view: RegionView, now_ns: int, settings: PlanSettings) -> Capacity:
    """What is in service, and what is on its way: starting, ordered, or silent for a moment only."""
    leaving = _leaving(view)
    stay = [each for each in view.instances if each.id not in leaving]
    known = {each.id for each in view.instances}
    coming = [each.size for each in stay if each.state == "starting" or _blinking(each, now_ns, settings)]
    coming += [
        each.size for each in view.pending if each.action == "create" and each.unfinished and each.instance not in known
    ]
    sizes = {size.name: size for size in view.sizes}
    return current_capacity((e.size for e in stay if e.state in IN_SERVICE), coming, sizes, view.new_size(now_ns))


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
    vanished = draft.vanished()
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


def _leaving(view: RegionView) -> set[str]:
    """Instances ordered away, whatever their state still says."""
    return {
        each.instance
        for each in view.pending
        if each.instance and each.unfinished and each.action in ("drain", "destroy")
    }


def _blinking(instance: InstanceView, now_ns: int, settings: PlanSettings) -> bool:
    return instance.state == "unreachable" and now_ns - instance.since_ns < settings.repair_after_s * NS_PER_S


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
        self.leaving = _leaving(view)
        self.serving = [e for e in view.instances if e.state in IN_SERVICE and e.id not in self.leaving]
        self.present = math.floor(capacity.instances + capacity.coming + _ROUNDING)
        """Whole instances (of the region's size) in service or on their way."""

    def vanished(self) -> set[str]:
        """Instances in service at the last plan that are neither up nor ordered away."""
        up = {each.id for each in self.view.instances if each.state in (*IN_SERVICE, "starting", "draining")}
        return set(self.view.memory.in_service) - up - self.leaving

    def hold(self, why: str) -> None:
        """Do nothing, and say why."""
        self.said.append(why)

    def scale_out(self) -> None:
        """Order what is missing, instance by instance, each with the source that asks for it."""
        memory, target = self.view.memory, self.required.target
        waited_ns = self.now_ns - (memory.ordered_out_ns or 0)
        if target <= memory.target and memory.ordered_out_ns and waited_ns < self.settings.scale_out_pause_s * NS_PER_S:
            self.hold("the same need was ordered a moment ago")
            return
        lost = self._lost()
        missing = target - self.present
        in_service = rate(self.capacity.eps * self.required.target_utilization)
        for level in range(self.present + 1, target + 1):
            cause, why = self._asks_for(level, lost)
            reason = f"{why}, capacity in service {in_service} → create {missing}"
            self._order("create", None, self.view.new_size(self.now_ns).name, cause, reason)
        self.said.append(f"create {missing}")

    def scale_in(self) -> None:
        """Take back orders not begun, else drain; hold wherever that could be wrong."""
        surplus = self.present - self.required.floor
        if surplus <= 0:
            return
        why = self._forbids_scale_in()
        if why:
            self.hold(why)
            return
        unbegun = [e.id for e in self.view.pending if e.action == "create" and e.status == "ordered"]
        self.superseded += unbegun[:surplus]
        if self.superseded:
            self.said.append(f"take back {len(self.superseded)} orders not begun")
        elif self.capacity.coming:
            self.hold("no scale-in while instances are starting")
        else:
            self._drain()

    def finished(self, brake_since_ns: int | None) -> RegionPlan:
        """The plan, with what the next one must remember."""
        memory, view = self.view.memory, self.view
        creates = sum(each.action == "create" for each in self.directives)
        drains = len(self.directives) - creates
        serving = tuple(each.id for each in self.serving if all(each.id != d.instance for d in self.directives))
        braking = brake_since_ns is not None
        return RegionPlan(
            region=view.region,
            directives=tuple(self.directives),
            superseded=tuple(self.superseded),
            target=self.required.target,
            explanation=self._explanation(),
            memory=Memory(
                needs=self.required.needs,
                # An order that was held back (a pause, the brake) is still owed.
                target=max(self.present + creates - drains, min(memory.target, self.required.target)),
                in_service=memory.in_service if braking else serving,
                ordered_out_ns=self.now_ns if creates else memory.ordered_out_ns,
                ordered_in_ns=self.now_ns if drains else memory.ordered_in_ns,
                brake_since_ns=brake_since_ns,
                began_ns=self.now_ns if memory.began_ns is None else memory.began_ns,
                alone=own_load(view, self.now_ns, self.settings),
            ),
        )

    def _lost(self) -> int:
        """Instances that will not come back by themselves, still listed or not."""
        waited_for = {each.id for each in self.view.instances if _blinking(each, self.now_ns, self.settings)}
        down = {each.id for each in self.view.instances if each.state in ("dead", "unreachable")}
        return len((down | self.vanished()) - waited_for)

    def _asks_for(self, level: int, lost: int) -> tuple[Cause, str]:
        """The cause of having the ``level``-th instance."""
        source = next((each for each in self.required.levels if each.instances >= level), self.required.levels[-1])
        if lost and level <= self.view.memory.target and source.cause != "override":
            return "repair", f"{lost} of the region's instances {'is' if lost == 1 else 'are'} lost, {source.why}"
        return source.cause, source.why

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

    def _drain(self) -> None:
        """Order the best candidates to drain, at most a step at a time, never a region's last."""
        under_way = len(self.leaving | {each.id for each in self.view.instances if each.state == "draining"})
        sizes = {size.name: size for size in self.view.sizes}
        unit = self.view.new_size(self.now_ns)
        left, keep = self.capacity.instances, max(1, 0 if self.required.overridden else self.view.minimum)
        staying = list(self.serving)
        for instance in sorted(self.serving, key=_drain_order):
            if under_way + len(self.directives) >= self.settings.scale_in_step or len(staying) <= keep:
                break
            share = worth(sizes.get(instance.size, unit), unit)
            if left - share + _ROUNDING < self.required.floor:
                continue
            left -= share
            staying.remove(instance)
            level = self.required.levels[0]
            cause: Cause = "override" if self.required.overridden else "scale_in"
            why = level.why if self.required.overridden else self._enough()
            self._order(
                "drain",
                instance.id,
                instance.size,
                cause,
                f"{why}, {len(self.serving)} in service → drain {instance.id}",
            )
        drained = ", ".join(str(each.instance) for each in self.directives)
        self.said.append(
            f"drain {drained}" if drained else "nothing can be drained: one is draining, or the rest is needed"
        )

    def _enough(self) -> str:
        minutes = self.settings.scale_in_window_s / 60
        return f"{self.required.floor} hold the load of the last {minutes:g} min and the load forecast"

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
            )
        )

    def _explanation(self) -> str:
        decisive = max(self.required.levels, key=lambda level: level.instances)
        here = f"{self.capacity.in_service} in service" + (
            f", {self.capacity.coming:g} coming" if self.capacity.coming else ""
        )
        head = f"{self.required.target} × {self.view.new_size(self.now_ns).name} needed ({decisive.why}); {here}"
        return "; ".join([head, *(self.said or ["nothing to do"]), *self.required.notes])


def _drain_order(instance: InstanceView) -> tuple[bool, float, int, str]:
    """Degraded ones first, then the least loaded, then the youngest (it holds the shortest ledgers)."""
    return (instance.state != "degraded", instance.load_eps, -instance.since_ns, instance.id)
