"""What a manager tells people about its region: the resources of the control API, as their JSON-ready fields.

The shapes are those of ``fedbus_serve.views``; here they are plain dicts, so that a manager needs no web framework.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fedbus.control.capacity import InstanceSize
from fedbus.control.directive import Directive
from fedbus.control.link_lag import recovery_point_ms
from fedbus.control.replication import Plan
from fedbus.control.sla import required_quantile
from fedbus.errors import NotFoundError
from fedbus.event import format_time_ns
from fedbus.keys import NO_OWNER
from fedbus.ledger_record import LedgerRecord
from fedbus.options.regions import RegionOptions
from fedbus.position import LedgerId
from fedbus.routing.distance import expected_ms
from fedbus.routing.table import RoutingTable
from fedbus_actors.fleet import Member
from fedbus_actors.forecast_report import forecast_view
from fedbus_actors.region_triggers import trigger_views

if TYPE_CHECKING:
    from fedbus_actors.region import Region

DIRECTIVES_SHOWN = 100
_DIRECTIVE_STATES = {"ordered": "planned", "superseded": "expired"}


class RegionReport:
    """The resources of one manager; read while its loop goes on, so it looks at copies."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._resources: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "regions": self._regions,
            "instances": self._instances,
            "ledgers": self._ledgers,
            "forecasts": self._forecasts,
            "directives": lambda: [
                directive_view(d) for d in region.store.directives.recent(region.name, DIRECTIVES_SHOWN)
            ],
            "routing": lambda: [routing_view(region.table)] if region.table is not None else [],
            "slas": self._slas,
            "triggers": lambda: trigger_views(region),
            "topics": region.topics.views,
            "subscriptions": region.groups.views,
            "decisions": self._decisions,
        }

    def read(self, resource: str) -> list[dict[str, Any]]:
        """The items of a resource; raises :class:`NotFoundError` naming those there are."""
        if resource not in self._resources:
            raise NotFoundError(f"{resource!r} is none of {', '.join(sorted(self._resources))}")
        return self._resources[resource]()

    def _regions(self) -> list[dict[str, Any]]:
        region, members = self._region, list(self._region.fleet.members.values())
        states = [member.state for member in members]
        serving = states.count("healthy") + states.count("degraded")
        observed, forecast = region.load.observed(), region.forecasts.forecast
        ledgers = self._ledgers()
        return [
            region_view(
                region.options.name, region.name, region.options.regions[region.name],
                state="unreachable" if not serving else "healthy" if states.count("healthy") == serving else "degraded",
                instances=serving,
                load_eps=round(sum(rate[0] for rate in list(region.load.rates.values())), 2),
                observed_eps=round(observed.eps, 2) if observed else None,
                forecast_eps=round(max(forecast.point_eps), 2) if forecast else None,
                capacity_eps=region.capacity_eps,
                required_eps=region.required_eps,
                published_total=region.load.published_total,
                delivered_total=region.load.delivered_total,
                ledgers=len(ledgers),
                under_replicated=sum(ledger["under_replicated"] for ledger in ledgers),
                geo_waiting_events=sum(_counter(member, "geo_waiting_events") for member in members),
                geo_waiting_ms=max((_counter(member, "geo_waiting_ms") for member in members), default=0),
                links=self._links(),
                recovery_point_ms=recovery_point_ms(region.name, region.peering.summaries.values()),
                peers=self._peers(),
                peering_dropped=dict(region.peering.dropped),
                explanation=region.explanation,
                as_of=format_time_ns(region.clock.now_ns()),
            )
        ]  # fmt: skip

    def _links(self) -> list[dict[str, Any]]:
        """What is pulled from where, and how far that is behind."""
        links, lags = self._region.links, self._region.links.lags
        pulled = {LedgerId.parse(link.ledger).region for held in list(links.links.values()) for link in held}
        lost = self._region.peering.lost
        return [
            {
                "source": name, "state": "down" if name in lost else "up",
                "lag_ms": lags[name].lag_ms if name in lags else None,
                "behind_events": lags[name].events if name in lags else None,
                "topics": lags[name].topics if name in lags else {},
            }
            for name in sorted(pulled | lags.keys())
        ]  # fmt: skip

    def _peers(self) -> list[dict[str, Any]]:
        peering = self._region.peering
        return [
            {
                "region": name, "endpoint": peer.address.endpoint, "public_key": peer.address.public_key,
                "state": "lost" if peer.lost_since_ns is not None else "healthy" if peer.present else "waiting",
                "round_trip_ms": peer.round_trip_ms if peer.present else None,
                "lost_for_s": peering.lost_for_s(name),
            }
            for name, peer in sorted(peering.states.items())
        ]  # fmt: skip

    def _instances(self) -> list[dict[str, Any]]:
        load = self._region.load
        sizes = {size.name: size for size in self._region.options.regions[self._region.name].capacities()}
        return [
            instance_view(
                member, load.rates.get(name, (0.0, 0.0))[0], sizes.get(member.record.size), load.published.get(name, 0)
            )
            for name, member in list(self._region.fleet.members.items())
        ]

    def _ledgers(self) -> list[dict[str, Any]]:
        keeper, ends = self._region.ledgers, self._ends()
        return [
            ledger_view(self._region.name, record, keeper.plan, ends.get((record.id, record.dispatcher)))
            for record in keeper.records()
        ]

    def _ends(self) -> dict[tuple[str, str], int]:
        """Confirmed ends by ledger and who serves it."""
        return {
            (ledger, member.name): end
            for member in list(self._region.fleet.members.values())
            if member.report is not None
            for ledger, end in member.report.status.ledgers.items()
        }

    def _forecasts(self) -> list[dict[str, Any]]:
        region = self._region
        quantile = required_quantile(each.body for each in region.store.slas.all())
        if region.decision is not None:
            quantile = round(1 - region.decision.planned_budget, 4)
        recent = region.store.directives.recent(region.name, DIRECTIVES_SHOWN)
        return [forecast_view(region, quantile, [directive_view(directive) for directive in recent])]

    def _slas(self) -> list[dict[str, Any]]:
        return [
            {
                "filter": sla.filter, "max_latency_ms": sla.max_latency_ms, "availability": sla.availability,
                "quantile": required_quantile([sla]),
            }
            for sla in (each.body for each in self._region.store.slas.all())
        ]  # fmt: skip

    def _decisions(self) -> list[dict[str, Any]]:
        entries = self._region.store.status_log.recent(100, region=self._region.name)
        return [
            {"time": format_time_ns(e.time_ns), "region": e.region, "kind": e.kind, "message": e.message}
            for e in entries
        ]


def _counter(member: Member, name: str) -> int:
    return member.report.status.counters.get(name, 0) if member.report is not None else 0


def instance_view(member: Member, load_eps: float, size: InstanceSize | None, published: int) -> dict[str, Any]:
    """One instance."""
    report = member.report
    return {
        "region": member.record.region,
        "instance": member.name,
        "state": member.state,
        "size": member.record.size,
        "endpoint": member.record.endpoint,
        "ledger": report.status.ledger if report else "",
        "load_eps": round(load_eps, 2),
        "capacity_eps": size.events_per_s if size else 0.0,
        "published_total": published,
        "since": format_time_ns(member.vital.health.since_ns),
        "detail": member.progress or member.vital.health.reason,
        "node": member.record.node,
        "cpu_share": round(report.usage.cpu_share, 3) if report else None,
        "memory_bytes": report.usage.memory_bytes if report else None,
        "round_trip_ms": member.vital.round_trip_ms,
        "backlog_events": sum(group.backlog for group in report.status.groups if group.here) if report else None,
        "groups": [group.name for group in report.status.groups] if report else [],
        "ledgers": report.status.ledgers if report else {},
        "pid": report.pid if report else None,
        "geo_waiting_events": _counter(member, "geo_waiting_events"),
        "geo_waiting_ms": _counter(member, "geo_waiting_ms"),
    }


def ledger_view(region: str, record: LedgerRecord, plan: Plan, end: int | None) -> dict[str, Any]:
    """One ledger; ``end`` as its dispatcher says."""
    copies = plan.copies.get(record.id, 0)
    return {
        "region": region,
        "ledger": record.id,
        "state": record.state,
        "end": record.end_offset if record.end_offset is not None else end,
        "copies": copies,
        "wanted_copies": plan.wanted,
        "under_replicated": record.state != "EXPIRED" and copies < plan.wanted,
        "writer": record.writer.instance,
        "dispatcher": record.dispatcher,
        "members": [member.instance for member in record.members],
        "term": record.term,
        "waiting": plan.waiting.get(record.id, plan.waiting.get(record.dispatcher, "")),
    }


def region_view(federation: str, region: str, options: RegionOptions, **measured: Any) -> dict[str, Any]:
    """The region at a glance; ``measured`` holds what changes."""
    return {
        "region": region,
        "federation": federation,
        "provider": options.provider,
        "location": options.location,
        "latitude": options.latitude,
        "longitude": options.longitude,
        **measured,
    }


def directive_view(directive: Directive) -> dict[str, Any]:
    """An instruction, and what became of it."""
    settled = directive.settled_at_ns
    return {
        "id": directive.id,
        "region": directive.region,
        "action": directive.action,
        "instance": f"{directive.region}/{directive.instance}" if directive.instance else "",
        "size": directive.size,
        "state": _DIRECTIVE_STATES.get(directive.status, directive.status),
        "cause": directive.cause,
        "reason": directive.reason,
        "outcome": directive.outcome,
        "created": format_time_ns(directive.ordered_at_ns),
        "finished": format_time_ns(settled) if settled is not None else None,
    }


def routing_view(table: RoutingTable) -> dict[str, Any]:
    """The routing table, with how many key slots each instance owns."""
    routes = []
    here = table.region(table.home)
    expected = {region.region: round(expected_ms(here, region), 1) for region in table.regions}
    order = sorted(expected.items(), key=lambda each: (each[0] != table.home, each[1], each[0]))
    for region in table.regions:
        owned = region.owner_places()
        counts = {place: owned.count(place) for place in set(owned) - {NO_OWNER}}
        for place, route in enumerate(region.instances):
            routes.append({
                "region": region.region, "instance": route.instance, "endpoint": route.endpoint,
                "state": route.state, "weight": route.weight, "slots": counts.get(place, 0),
            })  # fmt: skip
    return {
        "region": table.home,
        "federation": table.federation,
        "version": table.version,
        "routes": routes,
        "failover": [region for region, _ in order],
        "predicted_ms": dict(order),
    }
