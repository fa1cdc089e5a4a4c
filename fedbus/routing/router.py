"""The Router: which instance takes this event. The same one decides in the gateway and in every client.

Pure: it is told tables, round trips, what is in flight and who is silent, and answers; time is passed in. Keyless
events go to the better of two instances drawn at random ("power of two choices", Mitzenmacher 2001) by one score, the
predicted latency of a :mod:`standing <fedbus.routing.standing>`, keyed ones to the owner of their slot. Outliers are
:mod:`ejected <fedbus.routing.ejection>`. If the home region has nobody, the others follow by predicted latency:
measured round trips before distance. Assumes that instance names are unique in the federation, and that :meth:`beat`
is called a few times a second. When to give up on an owner, and to send again, is left to the client's outbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from fedbus.errors import NotFoundError, UnavailableError
from fedbus.keys import slot_of
from fedbus.routing import decision
from fedbus.routing.area import Area
from fedbus.routing.decision import Decision
from fedbus.routing.distance import expected_ms
from fedbus.routing.hearing import Hearing
from fedbus.routing.standing import Standing
from fedbus.routing.table import InstanceRoute, RegionRoute, RoutingTable

REASONS_TOLD = 8
AWAY_NS = 500_000_000  # two beats


class Dice(Protocol):
    """Randomness; ``random.Random`` is one."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class Router(Hearing):
    """Routing decisions over the newest table; :class:`UnavailableError` when nobody is left."""

    def __init__(self, home_region: str, random: Dice) -> None:
        super().__init__()
        self.home_region = home_region
        self.table: RoutingTable | None = None
        self._random = random.random
        self._orders: dict[str, list[Area]] = {}
        self._versions: dict[str, int] = {}
        self._decided: deque[Decision] = deque(maxlen=decision.KEPT)
        self._beat_ns: int | None = None

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
        known, self._standings, self._orders = self._standings, {}, {}
        before, self._areas = self._areas, {}
        here = table.region(self.home_region)
        for region in table.regions:
            standings = [_standing(known.get(route.instance), region, route) for route in region.instances]
            self._standings.update((standing.route.instance, standing) for standing in standings)
            held_area, told = before.get(region.region), table.home == self.home_region
            # The round trips in another region's table begin there.
            expected = held_area.expected_ms if held_area and not told else expected_ms(here, region, told=told)
            area = self._areas[region.region] = Area(region, standings, expected, self._decided)
            area.inherit(held_area)
        return True

    def beat(self, now_ns: int) -> None:
        """Eject outliers, let those out come back, and put the regions in order."""
        passed_ns = 0 if self._beat_ns is None else max(0, now_ns - self._beat_ns)
        self._beat_ns = now_ns
        if passed_ns > AWAY_NS:  # it is we who were held up: what was measured meanwhile says nothing of the others
            for standing in self._standings.values():
                standing.forget()
        changed = [area.beat(now_ns, passed_ns) for area in self._areas.values()]
        if any(changed):
            self._orders = {}

    # -- what it decides -----------------------------------------------------------------------------------------------

    def pick(self, region: str | None = None, avoid: Collection[str] = (), *, elsewhere: bool = True) -> InstanceRoute:
        """Where a keyless batch goes: ``region`` (default: home), if ``elsewhere`` then others by latency."""
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

        A silent owner is still the owner, and so is one that was ejected: order per key is kept by waiting for it, or
        by avoiding it for good.
        """
        slot = slot_of(key_hash)
        for area in self._order(region):
            found = area.owner(slot, avoid)
            if found is not None:
                return found
            if not elsewhere:
                break
        raise _nobody(region or self.home_region, self._standings)

    def version_for(self, instance: str) -> int:
        """By which table its keys are placed, for that instance to compare with its own: 0 if its region made another.

        Each region counts its tables, so that the numbers of two regions say nothing of each other.
        """
        standing = self._standings.get(instance)
        made = self.table is not None and standing is not None and standing.region == self.table.home
        return self.table.version if made and self.table is not None else 0

    # -- what can be asked of it ---------------------------------------------------------------------------------------

    def instances(self, region: str | None = None, *, pickable: bool = False) -> list[InstanceRoute]:
        """The instances of a region (default: home) in whatever state, or only those that may be picked now."""
        area = self._areas.get(region or self.home_region)
        if area is None:
            return []
        return [standing.route for standing in (area.candidates if pickable else area.standings)]

    def explain(self) -> list[dict[str, Any]]:
        """What every decision rests on, one row per instance, regions in the order in which they stand in."""
        shares = decision.shares(self._decided)
        return [
            decision.row(standing, area.places.count(place), shares.get(standing.route.instance, 0.0))
            for area in self._order(None)
            for place, standing in enumerate(area.standings)
        ]

    def failover(self) -> list[tuple[str, float]]:
        """The regions in the order in which they stand in, each with its predicted latency in ms."""
        return [(area.route.region, area.predicted_ms) for area in self._order(None)]

    def reasons(self) -> list[str]:
        """The last decisions about keyless batches, each in a sentence, the newest first."""
        newest = list(self._decided)[-REASONS_TOLD:]
        return [decision.reason(each) for each in reversed(newest)]

    def explain_key(self, key_hash: int) -> tuple[str, str]:
        """Where a key goes now, and why in a sentence."""
        slot, owner = slot_of(key_hash), self.owner(key_hash)
        version = self.table.version if self.table is not None else 0
        return owner.instance, f"rendezvous hashing of routing table {version} gives its key slot {slot} to that one"

    def _order(self, region: str | None) -> list[Area]:
        """All regions, ``region`` (default: home) first, then by predicted latency from here, then by name."""
        start = region or self.home_region
        order = self._orders.get(start)
        if order is None:
            if region is not None and region not in self._areas:
                raise NotFoundError(
                    f"no region {region!r} in this federation: it has {', '.join(self._areas) or 'none'}"
                )
            names = sorted(self._areas, key=lambda name: (name != start, self._areas[name].predicted_ms, name))
            order = self._orders[start] = [self._areas[name] for name in names]
        return order


def _standing(known: Standing | None, region: RegionRoute, route: InstanceRoute) -> Standing:
    """What was known of an instance goes on, unless it has moved."""
    if known is None or known.route.endpoint != route.endpoint:
        return Standing(region.region, route)
    known.follow(region.region, route)
    return known


def _nobody(region: str, standings: Mapping[str, Standing]) -> UnavailableError:
    rows = [f"{name} ({s.route.state}{', silent' if s.suspect else ''})" for name, s in standings.items()]
    return UnavailableError(
        f"no healthy bus instance can take events for region {region}; known: {', '.join(rows[:8]) or 'none'}. "
        "`fedbus status` shows why"
    )
