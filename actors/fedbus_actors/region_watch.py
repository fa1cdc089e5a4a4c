"""The watch: what must not wait for a tick. Health, directives under way, neighbours, links, routing; on real time."""

from __future__ import annotations

import msgspec

from fedbus.control.capacity import worth
from fedbus.control.routing_policy import generate_routing_policy, instance_route
from fedbus.control.summary import LedgerSummary, RegionSummary
from fedbus_actors import remote
from fedbus_actors.fleet import Member
from fedbus_actors.region import Region

ROUND_NS = 400_000_000


class RegionWatch:
    """The watch over one region. ``summary``: what peers are told of it."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._next_round_ns = 0
        self._states: dict[str, str] = {}
        self.summary: RegionSummary | None = None

    def run(self) -> None:
        """What must not wait for a tick: health, topics, ledgers, directives under way, links, routing, groups.

        While something is under way with ledgers it is called more often, for their sake alone.
        """
        self._start_first_instances()
        self.monitor_bus_instances()
        self._region.topics.step()  # an instance is to have them before it gets a ledger to write
        self._region.ledgers.step(self._region.fleet.kept())
        now_ns = self._region.real.monotonic_ns()
        before, self._states = self._states, {name: member.state for name, member in self._region.fleet.members.items()}
        if now_ns < self._next_round_ns and self._states == before:
            return
        self._next_round_ns = now_ns + ROUND_NS
        self._region.fleet.give_up_lost()
        self._region.fleet.reconcile(self._region.store.directives.unfinished(self._region.name))
        self._pull()
        self.generate_routing_policy()
        self._region.groups.step()

    def _pull(self) -> None:
        """Links: what is wanted here and was born in other regions."""
        region = self._region
        region.links.step(
            region.fleet, region.peering.summaries, region.ledgers.records(), region.groups.interest(),
            region.topics.policies.rules, region.peering.keys(),
        )  # fmt: skip

    def _start_first_instances(self) -> None:
        bounds = self._region.own_options.instances
        if not self._region.fleet.members and not self._region.store.instances.all(region=self._region.name):
            for _ in range(bounds.initial):
                self._region.fleet.create(None, bounds.size)

    def monitor_bus_instances(self) -> None:
        """Reports of the instances, and what the health monitor feels of them."""
        monitor = remote.find(remote.monitor_name(self._region.options.name, self._region.name))
        self._region.fleet.poll(monitor)

    def generate_routing_policy(self) -> None:
        """A new table when something changed; every instance that has another one is told."""
        home = self._summarise()
        self.summary = self._abroad(home)
        peering = self._region.peering
        now_ms = self._region.real.now_ns() // 1_000_000
        self._region.table = generate_routing_policy(
            self._region.options.name, home, peering.summaries.values(), self._region.table, now_ms,
            frozenset(peering.lost),
        )  # fmt: skip
        data = self._region.table.encode()
        for member in self._region.fleet.members.values():
            if (
                member.fresh
                and member.report is not None
                and member.report.status.table_version != self._region.table.version
            ):
                member.handle.apply_table.remote(self._region.table.version, data)

    def _summarise(self) -> RegionSummary:
        options = self._region.own_options
        records = {record.id: record for record in self._region.ledgers.records()}
        sizes = {size.name: size for size in options.capacities()}
        unit = sizes[options.instances.size]
        routes, ledgers = [], []
        for member in self._region.fleet.members.values():
            weight = worth(sizes.get(member.record.size, unit), unit)
            route = instance_route(member.name, member.record.endpoint, member.state, weight)
            routes += [route] if route is not None else []
            if member.report is not None:
                status = member.report.status
                for ledger, end in status.ledgers.items():
                    record = records.get(ledger)
                    if record is not None and record.dispatcher == member.name:
                        growing = record.state != "CLOSED" or end < (record.end_offset or 0)
                        waits = ledger in status.geo_ledgers
                        ledgers.append(LedgerSummary(ledger, end, self._link_endpoint(member), growing, waits))
        served = {each.ledger for each in ledgers}
        ledgers += [
            LedgerSummary(record.id, record.end_offset or 0, "", record.state != "CLOSED")  # nobody serves it now
            for record in records.values()
            if record.state != "EXPIRED" and record.id not in served
        ]
        observed = self._region.load.observed()
        return RegionSummary(
            self._region.name, self._region.epoch, self._region.clock.now_ns(), options.latitude, options.longitude,
            observed.eps if observed else 0.0, observed.bps if observed else 0.0, self._region.capacity_eps, routes,
            ledgers, link_key=self._region.peering.own_keys.public, lags=self._region.links.lags,
            round_trips=self._region.peering.round_trips, gateway=self._region.gateway_url,
        )  # fmt: skip

    def _abroad(self, summary: RegionSummary) -> RegionSummary:
        """The summary with the endpoints at which others reach the instances, where those differ."""
        external = self._region.own_options.external_endpoint
        routes = [msgspec.structs.replace(route, endpoint=external(route.endpoint)) for route in summary.routes]
        ledgers = [
            msgspec.structs.replace(ledger, endpoint=ledger.endpoint and external(ledger.endpoint))
            for ledger in summary.ledgers
        ]
        return msgspec.structs.replace(summary, routes=routes, ledgers=ledgers)

    def _link_endpoint(self, member: Member) -> str:
        """Where instances of other regions reach this one."""
        assert member.report is not None, "who has reported serves ledgers"
        return f"tcp://{member.record.host}:{member.report.link_port}"
