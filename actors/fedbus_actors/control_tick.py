"""The tick: one round of the control loop, in the order and by the names of the design.

Collect resource metrics, retrieve event load history, retrieve SLA requirements, predict event load, calculate
required bus capacity, get current bus capacity, calculate scaling directives, apply them, log metrics and status. What
is decided is decided in ``fedbus.control.plan``.
"""

from __future__ import annotations

from fedbus.clock import NS_PER_S
from fedbus.control import plan as planning
from fedbus.control.calibration import calibrated_sizes
from fedbus.control.capacity import Capacity
from fedbus.control.sla import Sla
from fedbus.control.trigger import Trigger
from fedbus.control.view import InstanceView, Memory, PeerSummary, PlanSettings, RegionView
from fedbus.control.violations import Service
from fedbus_actors.fleet import Member
from fedbus_actors.region import Region
from fedbus_actors.region_experience import RegionExperience

GENERATIONS_PER_EPOCH = 10**9  # a successor never gives a directive an id that is there already


class ControlTick:
    """The ticks of one region; each plan has the next generation."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._generation = region.epoch * GENERATIONS_PER_EPOCH
        self._experience = RegionExperience(region.load)

    def run(self) -> None:
        """One round of the control loop, in the order of the design."""
        self.collect_resource_metrics()
        self.retrieve_event_load_history()
        slas = self.retrieve_sla_requirements()
        triggers = self._region.triggers()
        self._region.forecasts.step(self._region.load, triggers)
        settings = self._region.options.manager.plan_settings()
        view = self._view(slas, triggers, settings)
        now_ns = self._region.clock.now_ns()
        self._generation += 1
        requirements = planning.retrieve_sla_requirements(view)
        predicted = planning.predict_event_load(view, now_ns, requirements, settings)
        required = planning.calculate_required_bus_capacity(view, now_ns, predicted, requirements, settings)
        capacity = planning.get_current_bus_capacity(view, now_ns, settings, required.size)
        plan = planning.calculate_scaling_directives(view, now_ns, self._generation, required, capacity, settings)
        self.apply_scaling_directives(plan)
        utilization = required.target_utilization
        eps, bps = capacity.eps * utilization, capacity.bps * utilization
        self._experience.serves(Service(now_ns, eps, bps, required.follows_forecast))
        needed_eps = max((demand.eps for demand in predicted.demands), default=0.0) / utilization
        self.log_metrics_and_status(plan, capacity, needed_eps)

    def collect_resource_metrics(self) -> None:
        """CPU, memory and network of every instance that has just reported, to the store."""
        self._region.resources.collect(self._region.fleet.members.values())

    def retrieve_event_load_history(self) -> None:
        """Counters of the instances to slots of load history."""
        self._region.load.collect(self._region.fleet.members.values())

    def retrieve_sla_requirements(self) -> tuple[Sla, ...]:
        """The SLAs in force."""
        return self._region.slas()

    def _memory(self, slas: tuple[Sla, ...]) -> Memory:
        """What the plan remembers, with what was learned since."""
        found = self._region.store.memories.find(self._region.name)
        declared = self._region.own_options.capacities() if self._region.options.manager.calibrate else ()
        return self._experience.added_to(
            found.body if found is not None else Memory(), self._region.fleet.members.values(), declared, slas,
            self._region.clock.now_ns(),
        )  # fmt: skip

    def _view(self, slas: tuple[Sla, ...], triggers: tuple[Trigger, ...], settings: PlanSettings) -> RegionView:
        options, memory, now_ns = self._region.own_options, self._memory(slas), self._region.clock.now_ns()
        lead_s = self._region.forecasts.lead_s
        until_ns = now_ns + round(max(lead_s, settings.scale_in_lookahead_s) * NS_PER_S) + 1
        self._region.expected = self._region.outlook.expect(self._region.load.history, triggers, now_ns, until_ns)
        override = self._region.store.overrides.find(self._region.name)
        return RegionView(
            region=self._region.name,
            sizes=calibrated_sizes(options.capacities(), memory.calibrations),
            size=options.instances.size,
            minimum=options.instances.min,
            maximum=options.instances.max,
            instances=tuple(self._instance_view(member) for member in self._region.fleet.members.values()),
            pending=tuple(self._region.store.directives.unfinished(self._region.name)),
            observed=self._region.load.observed(),
            metrics_complete=self._region.load.complete,
            forecast=self._region.forecasts.forecast,
            slas=slas,
            expected=self._region.expected,
            peers=self._peers(),
            provisioning_lead_s=lead_s,
            override=override.body if override is not None else None,
            memory=memory,
            target_utilization=self._region.options.manager.target_utilization,
        )  # fmt: skip

    def _peers(self) -> tuple[PeerSummary, ...]:
        """The other regions' last words; since when one is lost in the time of the control plane's clock."""
        peering, now_ns = self._region.peering, self._region.clock.now_ns()
        speed = 1 / self._region.clock.real_seconds(1.0)
        lost_s = {region: peering.lost_for_s(region) for region in peering.summaries}
        return tuple(
            PeerSummary(
                region=peer.region, at_ns=peer.at_ns, load_eps=peer.load_eps, load_bps=peer.load_bps,
                capacity_eps=peer.capacity_eps,
                lost_since_ns=None if seconds is None else now_ns - round(seconds * speed * NS_PER_S),
            )
            for peer in peering.summaries.values()
            for seconds in [lost_s.get(peer.region)]
        )  # fmt: skip

    def _instance_view(self, member: Member) -> InstanceView:
        eps, bps = self._region.load.rates.get(member.record.id, (0.0, 0.0))
        speed = 1 / self._region.clock.real_seconds(1.0)
        ago_ns = round((self._region.real.now_ns() - member.vital.health.since_ns) * speed)
        return InstanceView(
            id=member.record.id, size=member.record.size, state=member.state, node=member.record.node,
            since_ns=self._region.clock.now_ns() - ago_ns, load_eps=eps, load_bps=bps,
        )  # fmt: skip

    def apply_scaling_directives(self, plan: planning.RegionPlan) -> None:
        """Order what is new and take back what is superseded; the fleet carries it out."""
        now_ns = self._region.clock.now_ns()
        for taken_back in plan.superseded:
            self._region.store.directives.step(taken_back, "supersede", now_ns)
        self._region.store.memories.put(self._region.name, plan.memory, now_ns)
        if plan.directives:
            self._region.store.directives.order(plan.directives)
            for directive in plan.directives:
                self._region.note("directive", f"{directive.action} ({directive.cause}): {directive.reason}")
                self._region.fleet.begin(directive)

    def log_metrics_and_status(self, plan: planning.RegionPlan, capacity: Capacity, required_eps: float) -> None:
        """Remember what was decided and why; a sentence goes to the log when it changes."""
        self._region.capacity_eps, self._region.required_eps = capacity.eps, required_eps
        self._region.decision = plan.decision
        self._region.capacity.serve(self._region.clock.now_ns(), capacity.eps, capacity.in_service)
        if plan.explanation != self._region.explanation:
            self._region.explanation = plan.explanation
            self._region.note("plan", plan.explanation)
