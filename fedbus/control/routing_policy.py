"""The routing policy: from who is healthy where to the routing table that everybody follows.

A table is pushed to everybody who routes, so that it must not change for nothing: a weight follows the size and the
state of an instance, not its load of the moment (of that every router measures more and sooner), and a round trip is
told anew only when it has become another one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from fedbus.control.health import State
from fedbus.control.summary import RegionSummary
from fedbus.routing.table import DEGRADED, DRAINING, HEALTHY, UNREACHABLE, InstanceRoute, RoutingTable, region_route

DEGRADED_SHARE = 0.25  # of the events that it would take when healthy
OTHER_FACTOR, OTHER_MS = 1.5, 5.0  # a round trip that differs from the one told by so much is another one

_ROUTE_STATES: dict[State, str] = {
    "healthy": HEALTHY,
    "degraded": DEGRADED,
    "draining": DRAINING,
    "unreachable": UNREACHABLE,
    "dead": UNREACHABLE,
}


def instance_route(name: str, endpoint: str, state: State, weight: float) -> InstanceRoute | None:
    """The route to an instance; ``None`` while it has never answered (nobody could use it).

    ``weight``: what it holds, in instances of the region's size; a degraded one counts for less.
    """
    route_state = _ROUTE_STATES.get(state)
    if route_state is None:
        return None
    return InstanceRoute(name, endpoint, route_state, weight * (DEGRADED_SHARE if state == "degraded" else 1.0))


def generate_routing_policy(
    federation: str,
    home: RegionSummary,
    peers: Iterable[RegionSummary],
    before: RoutingTable | None,
    now_ms: int,
    lost: Collection[str] = (),
) -> RoutingTable:
    """The table of all regions, the home first; the same object as ``before`` if nothing has changed.

    Routes of ``lost`` regions stay in it as unreachable. Versions are Unix milliseconds (at least one above the last):
    they grow across managers and their restarts.
    """
    regions = []
    for each in [home, *sorted(peers, key=lambda peer: peer.region)]:
        routes = _sorted(each.routes)
        if each.region in lost:
            routes = [msgspec.structs.replace(route, state=UNREACHABLE) for route in routes]
        trip_ms = None if each is home else _told(before, each.region, home.round_trips.get(each.region))
        regions.append(
            region_route(each.region, routes, latitude=each.latitude, longitude=each.longitude, round_trip_ms=trip_ms)
        )
    if before is not None and before.regions == regions:
        return before
    version = max(now_ms, before.version + 1 if before is not None else 1)
    return RoutingTable(federation, home.region, version, regions)


def _told(before: RoutingTable | None, region: str, measured_ms: float | None) -> float | None:
    """The round trip as it was told, until it is another one."""
    told = before.region(region) if before is not None else None
    held = told.round_trip_ms if told is not None else None
    if held is None or measured_ms is None:
        return round(measured_ms, 1) if measured_ms is not None else held
    same = abs(measured_ms - held) < OTHER_MS or held / OTHER_FACTOR < measured_ms < held * OTHER_FACTOR
    return held if same else round(measured_ms, 1)


def _sorted(routes: Sequence[InstanceRoute]) -> list[InstanceRoute]:
    return sorted(routes, key=lambda route: route.instance)
