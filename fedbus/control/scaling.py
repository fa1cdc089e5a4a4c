"""Scaling: from what is needed now and ahead to the instances to have, and the number nothing may be drained below.

The numeric heart that the live plan and the simulation share: a few integers in, a few out, no words and no clock.
Scaling out follows the need at once. Scaling in is slower: never below the largest target of the stabilisation window,
nor below what is needed further ahead (what is drained now would only be started again). A call takes a microsecond
or two, because a simulated year has half a million of them.
"""

from __future__ import annotations

import math

import msgspec

#: What a load that is no number needs: more than there can be.
MOST_INSTANCES = 1_000_000
_ROUNDING = 1e-9  # a need of 3.0000000001 instances is one of 3


class Need(msgspec.Struct, frozen=True):
    """Instances (of the region's size) needed at a moment."""

    at_ns: int
    instances: int


class Bounds(msgspec.Struct, frozen=True):
    """Limits of a region: at least and at most so many instances, spares beyond the need, the stabilisation window."""

    minimum: int = 1
    maximum: int = MOST_INSTANCES
    spare: int = 0
    window_ns: int = 300_000_000_000


class Scaled(msgspec.Struct, frozen=True):
    """Instances to have (``target``), the number below which nothing is drained, and what the next call is to know."""

    target: int
    floor: int
    recent: tuple[Need, ...]


def instances_for(load: float, capacity: float, utilization: float = 1.0) -> int:
    """Instances of ``capacity`` that hold ``load`` (same unit) when none is fuller than ``utilization``; 0 for none."""
    fill = load / (capacity * utilization)
    return max(0, math.ceil(fill - _ROUNDING)) if fill < MOST_INSTANCES else MOST_INSTANCES


def scale(now_ns: int, need: int, ahead: int, recent: tuple[Need, ...], bounds: Bounds) -> Scaled:
    """The instances to have at ``now_ns``.

    ``need``: for the load now and the load within the time provisioning takes. ``ahead``: for the load further ahead,
    which only forbids scaling in (0: nothing known). ``recent``: that of the previous call; () at first. The spares
    are added here, and the limits kept: ``minimum ≤ target ≤ floor ≤ maximum``.
    """
    maximum, spare = bounds.maximum, bounds.spare
    target = min(maximum, max(bounds.minimum, need + spare))
    # Kept strictly falling: a need that a later one reaches can never be the window's largest again.
    first, end, oldest_ns = 0, len(recent), now_ns - bounds.window_ns
    while first < end and recent[first].at_ns < oldest_ns:
        first += 1
    while end > first and (recent[end - 1].instances <= target or recent[end - 1].at_ns > now_ns):
        end -= 1
    kept = (*recent[first:end], Need(now_ns, target))
    floor = min(maximum, max(kept[0].instances, ahead + spare if ahead else 0))
    return Scaled(target, floor, kept)
