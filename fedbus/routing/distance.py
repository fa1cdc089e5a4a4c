"""Distance: what a round trip to a region is expected to take before anybody has measured it."""

from __future__ import annotations

from math import asin, cos, inf, radians, sin, sqrt

from fedbus.routing.table import RegionRoute

EARTH_RADIUS_KM = 6371.0
KM_PER_ROUND_TRIP_MS = 100.0  # light in glass covers 200 km per ms, there and back
NEAR_MS = 1.0  # within a region; also the floor below which differences are noise
UNKNOWN_MS = 100.0  # another region whose place is unknown


def distance_km(a: RegionRoute | None, b: RegionRoute) -> float:
    """Great-circle distance between two regions (haversine formula); infinite if a place is unknown."""
    if a is None or a.latitude is None or a.longitude is None or b.latitude is None or b.longitude is None:
        return inf
    lat_a, lat_b = radians(a.latitude), radians(b.latitude)
    half = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin(radians(b.longitude - a.longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, half)))


def expected_ms(home: RegionRoute | None, region: RegionRoute, *, told: bool = True) -> float:
    """The round trip from home: as its manager measured it, else what light in glass would need.

    ``told``: the table is that manager's; the round trips in another's begin elsewhere.
    """
    if home is not None and home.region == region.region:
        return NEAR_MS
    if told and region.round_trip_ms is not None:
        return NEAR_MS + region.round_trip_ms
    distance = distance_km(home, region)
    return NEAR_MS + distance / KM_PER_ROUND_TRIP_MS if distance < inf else UNKNOWN_MS
