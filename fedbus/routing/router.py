"""The Router: which instance takes this event. The same one decides in the gateway and in every client.

Pure: it is told tables, round trips, what is in flight and who is silent, and answers. Keyless events go to the
better of two instances drawn at random ("power of two choices", Mitzenmacher 2001), keyed ones to the owner of their
slot. If the home region has nobody, the others follow by distance. Assumes that instance names are unique in the
federation. When to give up on an owner, and to send again, is left to the client's outbox.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Mapping
from math import asin, cos, radians, sin, sqrt
from typing import Any, Protocol

from fedbus.errors import NotFoundError, UnavailableError
from fedbus.keys import NO_OWNER, best_owner, slot_of
from fedbus.routing.table import InstanceRoute, RegionRoute, RoutingTable

EARTH_RADIUS_KM = 6371.0
KM_PER_ROUND_TRIP_MS = 100.0  # light in glass covers 200 km per ms, there and back
NEAR_MS = 1.0  # within a region, until measured; also the floor below which differences are noise
UNKNOWN_MS = 100.0  # another region whose place is unknown
SMOOTHING = 0.2  # weight of the newest round trip in the average


class Dice(Protocol):
    """Randomness; ``random.Random`` is one."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class Standing:
    """What is known of one instance: its route, measured round trip, batches in flight, whether it is silent."""

    __slots__ = ("in_flight", "measured", "region", "route", "rtt_ms", "suspect")

    def __init__(self, region: str, route: InstanceRoute) -> None:
        self.region = region
        self.route = route
        self.rtt_ms = NEAR_MS
        self.measured = False
        self.in_flight = 0
        self.suspect = False

    @property
    def score(self) -> float:
        """Expected wait in milliseconds: the smaller, the better."""
        return max(self.rtt_ms, NEAR_MS) * (1.0 + self.in_flight / max(self.route.weight, 1e-6))


class _Area:
    """A region as the Router sees it: standings in the table's order, slot owners, and who may be picked."""

    __slots__ = ("candidates", "places", "route", "standings")

    def __init__(self, route: RegionRoute, standings: list[Standing]) -> None:
        self.route = route
        self.standings = standings
        self.places: array[int] = route.owner_places()
        self.candidates: list[Standing] = []
        self.refresh()

    def refresh(self) -> None:
        """Recompute who may be picked."""
        self.candidates = [s for s in self.standings if s.route.takes_events and s.route.weight > 0 and not s.suspect]

    def pick(self, random: Callable[[], float], avoid: Collection[str]) -> InstanceRoute | None:
        """The better of two candidates drawn at random, none of them in ``avoid``."""
        candidates = self.candidates
        count = len(candidates)
        if count > 1:
            first = int(random() * count)
            second = int(random() * (count - 1))
            a, b = candidates[first].route, candidates[second + (second >= first)].route
            if candidates[second + (second >= first)].score < candidates[first].score:
                a, b = b, a
            if not avoid or a.instance not in avoid:
                return a
            if b.instance not in avoid:
                return b
        left = [standing for standing in candidates if standing.route.instance not in avoid]
        return min(left, key=lambda standing: (standing.score, random())).route if left else None

    def owner(self, slot: int, avoid: Collection[str]) -> InstanceRoute | None:
        """The slot's owner, or its rendezvous successor among those not avoided."""
        place = self.places[slot]
        if place != NO_OWNER and self.standings[place].route.instance not in avoid:
            return self.standings[place].route
        left = [s.route for s in self.standings if s.route.takes_events and s.route.instance not in avoid]
        return left[best_owner(slot, [route.instance for route in left])] if left else None


class Router:
    """Routing decisions over the newest table; :class:`UnavailableError` when nobody is left."""

    def __init__(self, home_region: str, random: Dice) -> None:
        self.home_region = home_region
        self.table: RoutingTable | None = None
        self._random = random.random
        self._areas: dict[str, _Area] = {}
        self._standings: dict[str, Standing] = {}
        self._orders: dict[str, list[_Area]] = {}
        self._versions: dict[str, int] = {}

    def adopt(self, table: RoutingTable) -> bool:
        """Take over a table if it is newer than the one held; whether it was.

        Versions are compared per region that made the table. Another region's table replaces the home region's only
        while nobody of the home region can be picked.
        """
        if table.version <= self._versions.get(table.home, -1):
            return False
        held = self.table
        home = self._areas.get(self.home_region)
        if held is not None and held.home == self.home_region != table.home and home is not None and home.candidates:
            return False
        self._versions[table.home] = table.version
        self.table = table
        known, self._standings, self._areas, self._orders = self._standings, {}, {}, {}
        for region in table.regions:
            standings = [_standing(known.get(route.instance), region, route) for route in region.instances]
            self._standings.update((standing.route.instance, standing) for standing in standings)
            self._areas[region.region] = _Area(region, standings)
        self._set_priors()
        return True

    def pick(self, region: str | None = None, avoid: Collection[str] = (), *, elsewhere: bool = True) -> InstanceRoute:
        """Where a keyless batch goes: ``region`` (default: home) first, if ``elsewhere`` then others by distance."""
        for area in self._order(region):
            found = area.pick(self._random, avoid)
            if found is not None:
                return found
            if not elsewhere:
                break
        raise _nobody(region or self.home_region, self._standings)

    def owner(
        self, key_hash: int, region: str | None = None, avoid: Collection[str] = (), *, elsewhere: bool = True
    ) -> InstanceRoute:
        """Where an event with this key hash goes; the successor of an owner in ``avoid`` by rendezvous hashing.

        A silent owner is still the owner: order per key is kept by waiting for it, or by avoiding it for good.
        """
        slot = slot_of(key_hash)
        for area in self._order(region):
            found = area.owner(slot, avoid)
            if found is not None:
                return found
            if not elsewhere:
                break
        raise _nobody(region or self.home_region, self._standings)

    def instances(self, region: str | None = None, *, pickable: bool = False) -> list[InstanceRoute]:
        """The instances of a region (default: home) in whatever state, or only those that may be picked now."""
        area = self._areas.get(region or self.home_region)
        if area is None:
            return []
        return [standing.route for standing in (area.candidates if pickable else area.standings)]

    def standing(self, instance: str) -> Standing | None:
        """What is known of an instance of that name: region, route, measured round trip, in flight."""
        return self._standings.get(instance)

    def observe(self, instance: str, rtt_ms: float) -> None:
        """A round trip was measured."""
        standing = self._standings.get(instance)
        if standing is not None:
            weight = SMOOTHING if standing.measured else 1.0
            standing.rtt_ms += weight * (rtt_ms - standing.rtt_ms)
            standing.measured = True

    def sent(self, instance: str) -> None:
        """A batch is on its way there."""
        standing = self._standings.get(instance)
        if standing is not None:
            standing.in_flight += 1

    def answered(self, instance: str) -> None:
        """A batch on its way there was answered, or is no longer waited for."""
        standing = self._standings.get(instance)
        if standing is not None and standing.in_flight:
            standing.in_flight -= 1

    def suspect(self, instance: str) -> None:
        """It is silent: do not pick it."""
        self._mark(instance, suspect=True)

    def cleared(self, instance: str) -> None:
        """It answers again."""
        self._mark(instance, suspect=False)

    def explain(self) -> list[dict[str, Any]]:
        """What every decision rests on, one row per instance, nearest region first."""
        return [
            {
                "region": standing.region,
                "instance": standing.route.instance,
                "endpoint": standing.route.endpoint,
                "state": standing.route.state,
                "weight": standing.route.weight,
                "rtt_ms": round(standing.rtt_ms, 3),
                "measured": standing.measured,
                "in_flight": standing.in_flight,
                "suspect": standing.suspect,
                "score_ms": round(standing.score, 3),
                "slots": area.places.count(place),
            }
            for area in self._order(None)
            for place, standing in enumerate(area.standings)
        ]

    def _order(self, region: str | None) -> list[_Area]:
        """All regions, ``region`` (default: home) first, then by distance from it (unknown places last, by name)."""
        start = region or self.home_region
        order = self._orders.get(start)
        if order is None:
            if region is not None and region not in self._areas:
                raise NotFoundError(
                    f"no region {region!r} in this federation: it has {', '.join(self._areas) or 'none'}"
                )
            here = self._areas[start].route if start in self._areas else None
            names = sorted(self._areas, key=lambda n: (n != start, distance_km(here, self._areas[n].route), n))
            order = self._orders[start] = [self._areas[name] for name in names]
        return order

    def _set_priors(self) -> None:
        """Expect of the unmeasured what light in glass would need."""
        home = self._areas.get(self.home_region)
        for name, area in self._areas.items():
            distance = 0.0 if name == self.home_region else distance_km(home.route if home else None, area.route)
            prior_ms = NEAR_MS + distance / KM_PER_ROUND_TRIP_MS if distance < float("inf") else UNKNOWN_MS
            for standing in area.standings:
                if not standing.measured:
                    standing.rtt_ms = prior_ms

    def _mark(self, instance: str, *, suspect: bool) -> None:
        standing = self._standings.get(instance)
        if standing is not None and standing.suspect is not suspect:
            standing.suspect = suspect
            self._areas[standing.region].refresh()


def distance_km(a: RegionRoute | None, b: RegionRoute) -> float:
    """Great-circle distance between two regions (haversine formula); infinite if a place is unknown."""
    if a is None or a.latitude is None or a.longitude is None or b.latitude is None or b.longitude is None:
        return float("inf")
    lat_a, lat_b = radians(a.latitude), radians(b.latitude)
    half = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin(radians(b.longitude - a.longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, half)))


def _standing(known: Standing | None, region: RegionRoute, route: InstanceRoute) -> Standing:
    """What was known of an instance goes on, unless it has moved."""
    if known is None or known.route.endpoint != route.endpoint:
        return Standing(region.region, route)
    known.region, known.route = region.region, route
    return known


def _nobody(region: str, standings: Mapping[str, Standing]) -> UnavailableError:
    rows = [f"{name} ({s.route.state}{', silent' if s.suspect else ''})" for name, s in standings.items()]
    return UnavailableError(
        f"no healthy bus instance can take events for region {region}; known: {', '.join(rows[:8]) or 'none'}. "
        "`fedbus status` shows why"
    )
