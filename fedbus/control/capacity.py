"""Capacity: what instances of a size hold, what a load needs, and what a region has in service.

Amounts are counted in instances of the region's size, because that is what can be ordered; an instance of another
size counts by what it holds. Capacities are taken as given here, declared or calibrated (``calibration.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedbus.control.scaling import instances_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: States in which an instance takes load. A draining or unreachable one counts for nothing.
IN_SERVICE = frozenset({"healthy", "degraded"})
#: A rate nobody declared; not inf, because sizes cross JSON.
UNLIMITED = 1e18


class InstanceSize(msgspec.Struct, frozen=True):
    """A size of instance: what it holds in events/s and bytes/s (UNLIMITED: none declared), and its cost per hour."""

    name: str
    events_per_s: float
    bytes_per_s: float = UNLIMITED
    cost: float = 1.0


class Capacity(msgspec.Struct, frozen=True):
    """What a region has: rates in service, and counts in instances of the region's size (``instances``, ``coming``).

    ``in_service`` and ``ordered`` are heads, whatever their sizes.
    """

    eps: float
    bps: float
    instances: float
    coming: float
    in_service: int
    ordered: int = 0


def required_capacity(load_eps: float, load_bps: float, size: InstanceSize, target_utilization: float) -> int:
    """Instances of ``size`` that hold the load when none is fuller than ``target_utilization``; 0 for no load."""
    assert 0 < target_utilization <= 1
    return max(
        instances_for(load_eps, size.events_per_s, target_utilization),
        instances_for(load_bps, size.bytes_per_s, target_utilization),
    )


def worth(size: InstanceSize, unit: InstanceSize) -> float:
    """How many instances of ``unit`` an instance of ``size`` stands for (by the scarcer of its two rates)."""
    by_events = size.events_per_s / unit.events_per_s
    by_bytes = by_events if unit.bytes_per_s >= UNLIMITED else size.bytes_per_s / unit.bytes_per_s
    return min(by_events, by_bytes)


def current_capacity(
    in_service: Iterable[str], coming: Iterable[str], sizes: Mapping[str, InstanceSize], unit: InstanceSize
) -> Capacity:
    """What instances of these sizes (by name) hold.

    ``coming`` are starting or ordered. Unknown sizes count as ``unit``.
    """
    here = [sizes.get(name, unit) for name in in_service]
    ahead = [worth(sizes.get(name, unit), unit) for name in coming]
    return Capacity(
        eps=sum(size.events_per_s for size in here),
        bps=sum(size.bytes_per_s for size in here),
        instances=sum(worth(size, unit) for size in here),
        coming=sum(ahead),
        in_service=len(here),
        ordered=len(ahead),
    )
