"""The federation manager of one region: the control loop.

Two rhythms. The *watch*, twice a second of real time: reports, health, directives under way, neighbours, links, routing. The
*tick*, every interval of the control plane's clock: metrics, history, SLAs, forecast, capacity, directives. Both only
sequence; decisions are in ``fedbus.control``, steps that touch the world in the objects held here. Killed at any point,
the next incarnation takes the store's lease and goes on from what the store says.
"""

from __future__ import annotations

import base64
import logging
import os
from collections import deque
from pathlib import Path
from threading import Event
from typing import Any

import msgspec

from fedbus.clock import NS_PER_S, Clock, SystemClock
from fedbus.control import plan as planning
from fedbus.control.routing_policy import generate_routing_policy, instance_route
from fedbus.control.sla import Sla
from fedbus.control.summary import LedgerSummary, RegionSummary
from fedbus.control.trigger import Trigger
from fedbus.control.view import InstanceView, Memory, PeerSummary, RegionView
from fedbus.errors import ConflictError, FedbusError, NotFoundError
from fedbus.options.federation import FederationOptions
from fedbus.position import LedgerId
from fedbus.routing.table import RoutingTable
from fedbus.storage.data_directory import RegionDirectory
from fedbus.storage.store import ResourceMetrics, Store
from fedbus.threads import spawn
from fedbus_actors import remote
from fedbus_actors.fleet import Fleet, Member
from fedbus_actors.forecast_client import ForecastClient
from fedbus_actors.neighbours import Neighbours
from fedbus_actors.provisioner import RayProvisioner
from fedbus_actors.region_changes import RegionChanges
from fedbus_actors.region_links import RegionLinks
from fedbus_actors.region_load import RegionLoad
from fedbus_actors.region_report import RegionReport

WATCH_INTERVAL_S = 0.5
METRICS_KEPT_NS = 2 * 86_400 * NS_PER_S
CAPACITY_POINTS = 4000
GENERATIONS_PER_EPOCH = 10**9  # so that a successor never gives a directive an id that is there already

log = logging.getLogger(__name__)


class FederationManager:
    """One region's manager; plain class, Ray makes an actor of it. ``clock`` may run faster than real time (demo)."""

    def __init__(self, options: FederationOptions, region: str, clock: Clock | None = None) -> None:
        self.region = region
        self.options = options
        self.clock: Clock = clock or SystemClock()
        self._real = SystemClock()
        directory = RegionDirectory(options.data.root / options.name / region)
        self.store = Store(directory.store_path, self.clock.now_ns(), options.limits)
        self.epoch = self.store.lease.take(region, f"pid {os.getpid()}", self.clock.now_ns())
        self._seed_store()
        provisioner = RayProvisioner(options.name, region, options.regions[region], options.limits, Path(directory.path))
        self.fleet = Fleet(region, options, self.store, provisioner, self.clock, self._note)
        self.neighbours = Neighbours(options.name, (name for name in options.regions if name != region))
        self.links = RegionLinks(self.store, self.clock)
        self.load = RegionLoad(region, options.forecasting, self.store, self.clock)
        self.forecasts = ForecastClient(options.name, region, options.forecasting, self.store, self.clock)
        self.table: RoutingTable | None = None
        self.capacity_eps = 0.0
        self.required_eps: float | None = None
        self.explanation = ""
        self.capacity_history: deque[tuple[int, float]] = deque(maxlen=CAPACITY_POINTS)
        self._generation = self.epoch * GENERATIONS_PER_EPOCH
        self._next_tick_ns = 0
        self._told: RegionSummary | None = None
        self._stopping = Event()
        self._report = RegionReport(self)
        self._changes = RegionChanges(self)
        self._note("manager", f"manager of {region} acts under epoch {self.epoch}")
        self._thread = spawn(f"manager-{region}", self._run)

    def _seed_store(self) -> None:
        now_ns = self.clock.now_ns()
        self.store.slas.add_missing({sla.filter: sla.sla() for sla in self.options.slas}, now_ns)
        self.store.triggers.add_missing({each.name: each.trigger() for each in self.options.triggers}, now_ns)

    # -- the control loop ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.watch()
                if self.clock.now_ns() >= self._next_tick_ns:
                    interval_ns = self.options.manager.tick_interval_ms * 1_000_000
                    self._next_tick_ns = self.clock.now_ns() + interval_ns
                    self.tick()
            except ConflictError as error:
                if self._superseded():
                    log.warning("manager of %s ends: %s", self.region, error.detail)
                    os._exit(1)
                log.exception("manager of %s: a step met a concurrent change", self.region)
            except Exception:  # the loop must go on: every step can be repeated
                log.exception("manager of %s: a step failed", self.region)
            self._wait_for_interval()

    def _wait_for_interval(self) -> None:
        self._stopping.wait(min(WATCH_INTERVAL_S, max(0.05, self._tick_in_s())))

    def _tick_in_s(self) -> float:
        return self.clock.real_seconds((self._next_tick_ns - self.clock.now_ns()) / NS_PER_S)

    def _superseded(self) -> bool:
        current = self.store.lease.current(self.region)
        return current is not None and current.epoch != self.epoch

    def watch(self) -> None:
        """What must not wait for a tick: health, directives under way, neighbours, links, routing."""
        self._start_first_instances()
        self.monitor_bus_instances()
        self.fleet.reconcile(self.store.directives.unfinished(self.region))
        self.neighbours.poll()
        self.links.step(self.fleet, self.neighbours.summaries)
        self.generate_routing_policy()

    def tick(self) -> None:
        """One round of the control loop, in the order of the design."""
        self.collect_resource_metrics()
        self.retrieve_event_load_history()
        slas = self.retrieve_sla_requirements()
        triggers = tuple(each.body for each in self.store.triggers.all())
        self.forecasts.step(self.load, triggers)
        view, settings = self._view(slas, triggers), self.options.manager.plan_settings()
        now_ns = self.clock.now_ns()
        self._generation += 1
        requirements = planning.retrieve_sla_requirements(view)
        predicted = planning.predict_event_load(view, now_ns, requirements, settings)
        required = planning.calculate_required_bus_capacity(view, now_ns, predicted, requirements, settings)
        capacity = planning.get_current_bus_capacity(view, now_ns, settings)
        plan = planning.calculate_scaling_directives(view, now_ns, self._generation, required, capacity, settings)
        self.apply_scaling_directives(plan)
        needed_eps = max((demand.eps for demand in predicted.demands), default=0.0) / required.target_utilization
        self.log_metrics_and_status(plan, capacity.eps, needed_eps)

    def collect_resource_metrics(self) -> None:
        """CPU, memory and network of every instance that has just reported, to the store."""
        now_ns = self.clock.now_ns()
        readings = [
            ResourceMetrics(
                scope=f"instance/{member.record.id}",
                time_ns=now_ns,
                cpu_share=member.report.usage.cpu_share,
                memory_bytes=member.report.usage.memory_bytes,
                received_bytes_per_s=member.report.usage.node_received_bytes_per_s,
                sent_bytes_per_s=member.report.usage.node_sent_bytes_per_s,
            )
            for member in self.fleet.members.values()
            if member.fresh and member.report is not None
        ]
        if readings:
            self.store.resource_metrics.record(readings)
            self.store.resource_metrics.drop_before(now_ns - METRICS_KEPT_NS)

    def retrieve_event_load_history(self) -> None:
        """Counters of the instances to slots of load history."""
        self.load.collect(self.fleet.members.values())

    def retrieve_sla_requirements(self) -> tuple[Sla, ...]:
        """The SLAs in force."""
        return tuple(each.body for each in self.store.slas.all())

    def _view(self, slas: tuple[Sla, ...], triggers: tuple[Trigger, ...]) -> RegionView:
        options = self.options.regions[self.region]
        memory, override = self.store.memories.find(self.region), self.store.overrides.find(self.region)
        return RegionView(
            region=self.region,
            sizes=options.capacities(),
            size=options.instances.size,
            minimum=options.instances.min,
            maximum=options.instances.max,
            instances=tuple(self._instance_view(member) for member in self.fleet.members.values()),
            pending=tuple(self.store.directives.unfinished(self.region)),
            observed=self.load.observed(),
            metrics_complete=self.load.complete,
            forecast=self.forecasts.forecast,
            slas=slas,
            triggers=triggers,
            peers=tuple(
                PeerSummary(
                    region=peer.region, at_ns=peer.at_ns, load_eps=peer.load_eps, load_bps=peer.load_bps,
                    capacity_eps=peer.capacity_eps,
                )
                for peer in self.neighbours.summaries.values()
            ),
            provisioning_lead_s=self.options.forecasting.lead_ms / 1000,
            override=override.body if override is not None else None,
            memory=memory.body if memory is not None else Memory(),
            target_utilization=self.options.manager.target_utilization,
        )  # fmt: skip

    def _instance_view(self, member: Member) -> InstanceView:
        eps, bps = self.load.rates.get(member.record.id, (0.0, 0.0))
        speed = 1 / self.clock.real_seconds(1.0)
        ago_ns = round((self._real.now_ns() - member.vital.health.since_ns) * speed)
        return InstanceView(
            id=member.record.id, size=member.record.size, state=member.state, node=member.record.node,
            since_ns=self.clock.now_ns() - ago_ns, load_eps=eps, load_bps=bps,
        )  # fmt: skip

    def apply_scaling_directives(self, plan: planning.RegionPlan) -> None:
        """Order what is new and take back what is superseded; the fleet carries it out."""
        now_ns = self.clock.now_ns()
        for taken_back in plan.superseded:
            self.store.directives.step(taken_back, "supersede", now_ns)
        self.store.memories.put(self.region, plan.memory, now_ns)
        if plan.directives:
            self.store.directives.order(plan.directives)
            for directive in plan.directives:
                self._note("directive", f"{directive.action} ({directive.cause}): {directive.reason}")
                self.fleet.begin(directive)

    def log_metrics_and_status(self, plan: planning.RegionPlan, capacity_eps: float, required_eps: float) -> None:
        """Remember what was decided and why; a sentence goes to the log when it changes."""
        self.capacity_eps, self.required_eps = capacity_eps, required_eps
        self.capacity_history.append((self.clock.now_ns(), capacity_eps))
        if plan.explanation != self.explanation:
            self.explanation = plan.explanation
            self._note("plan", plan.explanation)

    # -- watch steps ---------------------------------------------------------------------------------------------------

    def _start_first_instances(self) -> None:
        bounds = self.options.regions[self.region].instances
        if not self.fleet.members and not self.store.instances.all(region=self.region):
            for _ in range(bounds.initial):
                self.fleet.create(None, bounds.size)

    def monitor_bus_instances(self) -> None:
        """Reports of the instances, and what the health monitor feels of them."""
        monitor = remote.find(remote.monitor_name(self.options.name, self.region))
        self.fleet.poll(monitor)

    def generate_routing_policy(self) -> None:
        """A new table when something changed; every instance that has another one is told."""
        home = self._told = self._summary()
        peers = self.neighbours.summaries.values()
        now_ms = self._real.now_ns() // 1_000_000
        self.table = generate_routing_policy(self.options.name, home, peers, self.table, now_ms)
        data = self.table.encode()
        for member in self.fleet.members.values():
            if member.fresh and member.report is not None and member.report.status.table_version != self.table.version:
                member.handle.apply_table.remote(self.table.version, data)

    def _summary(self) -> RegionSummary:
        options = self.options.regions[self.region]
        routes, ledgers = [], []
        for member in self.fleet.members.values():
            route = instance_route(member.name, member.record.endpoint, member.state, 1.0)
            routes += [route] if route is not None else []
            if member.report is not None:
                status = member.report.status
                for ledger, end in status.ledgers.items():
                    if LedgerId.parse(ledger).region == self.region:
                        ledgers.append(LedgerSummary(ledger, end, member.record.endpoint, ledger == status.ledger))
        observed = self.load.observed()
        return RegionSummary(
            self.region, self.epoch, self.clock.now_ns(), options.latitude, options.longitude,
            observed.eps if observed else 0.0, observed.bps if observed else 0.0, self.capacity_eps, routes, ledgers,
        )  # fmt: skip

    def _note(self, kind: str, message: str) -> None:
        log.info("%s: %s", self.region, message)
        self.store.status_log.append(self.region, kind, message, self.clock.now_ns())

    # -- asked by others -----------------------------------------------------------------------------------------------

    def summary(self) -> RegionSummary:
        """What other regions need to know of this one."""
        return self._told or self._summary()

    def readiness(self) -> bool | str:
        """True once an instance takes events and the routing table says so; else what is missing."""
        if self.table is None:
            return "no routing table yet"
        route = self.table.region(self.region)
        return route is not None and any(each.takes_events for each in route.instances) or "no instance takes events yet"

    def bootstrap(self) -> dict[str, Any]:
        """What a client starts with; raises :class:`NotFoundError` while there is no table yet."""
        table = self.table
        if table is None:
            raise NotFoundError(f"region {self.region} is starting: no instance is known yet")
        return {
            "federation": self.options.name,
            "region": self.region,
            "table": base64.b64encode(table.encode()).decode(),
            "table_version": table.version,
            "limits": msgspec.to_builtins(self.options.limits),
        }

    def read(self, resource: str) -> list[dict[str, Any]]:
        """One resource of the control API (see ``region_report.py``)."""
        return self._report.read(resource)

    def change(self, change: str, name: str, value: Any = None) -> dict[str, Any]:
        """An operator's change (see ``region_changes.py``); the next tick comes at once."""
        answer = self._changes.apply(change, name, value)
        self._next_tick_ns = 0
        return answer

    def schemas(self, call: str, *arguments: Any) -> Any:
        """The schema registry's store (``revision``, ``load``, ``commit``): the registry's home is one region's store."""
        if call not in ("revision", "load", "commit"):
            raise FedbusError(f"{call} is no call of the schema store")
        return getattr(self.store.schemas, call)(*arguments)

    def stop(self) -> None:
        """End the loop; the instances go on."""
        self._stopping.set()
        self._thread.join()
        self.store.close()

