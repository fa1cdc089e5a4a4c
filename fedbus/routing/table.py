"""The routing table: versioned answer to "which instance takes this event".

Made by a region's manager, pushed to instances and from them to every session; holds all regions of the federation, so
that a client that lost a whole region knows where to go. Old versions never replace newer ones.
"""

from __future__ import annotations

from array import array

import msgspec

from fedbus.errors import ProtocolError
from fedbus.keys import NO_OWNER, SLOTS, assign_slots

HEALTHY, DEGRADED, DRAINING, UNREACHABLE = "healthy", "degraded", "draining", "unreachable"
TAKES_EVENTS = (HEALTHY, DEGRADED)


class InstanceRoute(msgspec.Struct, frozen=True):
    """One bus instance. ``endpoint``: its data socket (``tcp://host:port``); ``weight``: share of keyless events."""

    instance: str
    endpoint: str
    state: str = HEALTHY
    weight: float = 1.0

    @property
    def takes_events(self) -> bool:
        """Whether new events may be sent there."""
        return self.state in TAKES_EVENTS


class RegionRoute(msgspec.Struct, frozen=True):
    """A region's instances. ``slots``: per key slot the owner's place in them (u16 little-endian, 0xFFFF = nobody).

    ``round_trip_ms``: from the region whose manager made the table, as measured; None: not measured, or that region.
    """

    region: str
    instances: list[InstanceRoute]
    slots: bytes
    latitude: float | None = None
    longitude: float | None = None
    round_trip_ms: float | None = None

    def owner_places(self) -> array[int]:
        """The slots as an array of places."""
        places: array[int] = array("H")
        places.frombytes(self.slots)
        return places


class RoutingTable(msgspec.Struct, frozen=True):
    """All regions. ``version`` grows with every change; ``home`` is the region whose manager made it."""

    federation: str
    home: str
    version: int
    regions: list[RegionRoute]

    def region(self, name: str) -> RegionRoute | None:
        """The region of that name."""
        return next((region for region in self.regions if region.region == name), None)

    def encode(self) -> bytes:
        """Its bytes on the wire."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> RoutingTable:
        """Read :meth:`encode`'s bytes; raises :class:`ProtocolError`."""
        try:
            table = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProtocolError(f"a routing table that cannot be read: {error}") from None
        for region in table.regions:
            fits = len(region.slots) == SLOTS * 2
            places = set(region.owner_places()) - {NO_OWNER} if fits else set()
            if not fits or (places and max(places) >= len(region.instances)):
                raise ProtocolError(f"routing table {table.version}: the slots of region {region.region} do not fit")
        return table


_decoder = msgspec.msgpack.Decoder(RoutingTable)


def region_route(
    region: str,
    instances: list[InstanceRoute],
    *,
    latitude: float | None = None,
    longitude: float | None = None,
    round_trip_ms: float | None = None,
) -> RegionRoute:
    """A region's part of the table, key slots given out by rendezvous hashing among the instances that take events."""
    taking = [place for place, route in enumerate(instances) if route.takes_events]
    owners = assign_slots([instances[place].instance for place in taking])
    slots = array("H", [taking[owner] if owner != NO_OWNER else NO_OWNER for owner in owners])
    return RegionRoute(region, instances, slots.tobytes(), latitude, longitude, round_trip_ms)
