"""The routing policy: from who is healthy where to the routing table that everybody follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedbus.control.health import State
from fedbus.control.summary import RegionSummary
from fedbus.routing.table import DEGRADED, DRAINING, HEALTHY, UNREACHABLE, InstanceRoute, RoutingTable, region_route

_ROUTE_STATES: dict[State, str] = {
    "healthy": HEALTHY,
    "degraded": DEGRADED,
    "draining": DRAINING,
    "unreachable": UNREACHABLE,
    "dead": UNREACHABLE,
}


def instance_route(name: str, endpoint: str, state: State, weight: float) -> InstanceRoute | None:
    """The route to an instance; ``None`` while it has never answered (nobody could use it)."""
    route_state = _ROUTE_STATES.get(state)
    return None if route_state is None else InstanceRoute(name, endpoint, route_state, weight)


def generate_routing_policy(
    federation: str, home: RegionSummary, peers: Iterable[RegionSummary], before: RoutingTable | None, now_ms: int
) -> RoutingTable:
    """The table of all regions, the home first; the same object as ``before`` if nothing has changed.

    Versions are Unix milliseconds (at least one above the last): they grow across managers and their restarts.
    """
    regions = [
        region_route(each.region, _sorted(each.routes), latitude=each.latitude, longitude=each.longitude)
        for each in [home, *sorted(peers, key=lambda peer: peer.region)]
    ]
    if before is not None and before.regions == regions:
        return before
    version = max(now_ms, before.version + 1 if before is not None else 1)
    return RoutingTable(federation, home.region, version, regions)


def _sorted(routes: Sequence[InstanceRoute]) -> list[InstanceRoute]:
    return sorted(routes, key=lambda route: route.instance)
