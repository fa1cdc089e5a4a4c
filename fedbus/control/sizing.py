"""Sizing: which size of instance a region orders, at least cost, without wandering between sizes.

A region has one size at a time, the unit people count in. A cheaper size is taken once it would have saved, since the
last change, what changing costs: the whole fleet running twice for ``CHANGE_HOURS`` (the rule of renting until the
rent paid equals the price; it never costs more than twice what the best sequence of sizes would have cost, see Karlin
et al., "Competitive randomized algorithms for nonuniform problems", 1990). So a size that is cheaper by a tenth is
changed to after ten hours, one at half the price after two, and no load makes a region change back and forth. Only
when the maximum of instances of the present size cannot hold what is needed, a size that can is taken at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fedbus.control.capacity import InstanceSize, required_capacity
from fedbus.control.decision import SizeConsidered
from fedbus.control.load import NS_PER_S
from fedbus.control.scaling import Bounds

#: A change of size costs as much as the present fleet in so many hours: both run while ledgers move.
CHANGE_HOURS = 1.0
#: Longer between two plans: the manager was away, and what prices would have been meanwhile is not known.
LONGEST_STEP_NS = 900 * NS_PER_S


class SizeMemory(msgspec.Struct, frozen=True):
    """The size in force, and what every other one would have saved since it is (price per hour × hours)."""

    size: str = ""
    since_ns: int = 0
    at_ns: int = 0
    saved: dict[str, float] = {}


class SizeChoice(msgspec.Struct, frozen=True):
    """The size to order, why in words, all sizes considered (the cheapest first), and what the next choice needs."""

    size: InstanceSize
    why: str
    considered: tuple[SizeConsidered, ...]
    memory: SizeMemory

    @property
    def words(self) -> str:
        """The sizes with what they cost, and why the one in force is."""
        sizes = ", ".join(f"{each.instances} × {each.size} cost {each.cost_per_hour:g}/h" for each in self.considered)
        return f"{sizes}: {self.why}"


def consider(
    loads: Sequence[tuple[float, float]], sizes: Sequence[InstanceSize], utilization: float, bounds: Bounds
) -> list[SizeConsidered]:
    """Every size with how many of it hold the largest of the loads (events/s, bytes/s), the best first.

    The best: those that hold the load within the maximum, then the cheapest, then fewest (less to look after).
    """
    found = []
    for size in sizes:
        need = max((required_capacity(eps, bps, size, utilization) for eps, bps in loads), default=0) + bounds.spare
        count = min(bounds.maximum, max(bounds.minimum, need))
        found.append(
            SizeConsidered(
                size=size.name, instances=count, cost_per_hour=count * size.cost,
                events_per_s=size.events_per_s * utilization, bytes_per_s=size.bytes_per_s * utilization,
                holds=need <= bounds.maximum,
            )
        )  # fmt: skip
    # Where none is enough, the one that holds the most: its price is not the worst that can happen.
    return sorted(found, key=_merit)


def _merit(each: SizeConsidered) -> tuple[bool, float, float, int, str]:
    held = 0.0 if each.holds else -each.instances * each.events_per_s
    return (not each.holds, held, each.cost_per_hour, each.instances, each.size)


def choose_size(
    now_ns: int,
    loads: Sequence[tuple[float, float]],
    sizes: Sequence[InstanceSize],
    utilization: float,
    bounds: Bounds,
    memory: SizeMemory,
    preferred: str,
) -> SizeChoice:
    """The size for the loads to be ready for: now, within the lead, and ahead. ``preferred``: the first to be in force.

    ``sizes`` must not be empty; costs are prices per hour.
    """
    by_name = {size.name: size for size in sizes}
    name = memory.size if memory.size in by_name else preferred if preferred in by_name else sizes[0].name
    if len(by_name) == 1:
        (only,) = consider(loads, sizes[:1], utilization, bounds)
        return SizeChoice(sizes[0], "the only size", (_chosen(only),), SizeMemory(name, memory.since_ns, now_ns))
    considered = consider(loads, sizes, utilization, bounds)
    costs = {each.size: each for each in considered}
    saved = _saved(now_ns, costs, name, memory)
    best, present = considered[0], costs[name]
    why = f"{name} stays"
    if not present.holds and best.size != name:
        why, name = f"{bounds.maximum} × {name} cannot hold it, {best.size} holds more", best.size
    else:
        richest = max(saved, key=lambda each: (saved[each], each))
        worthwhile = saved[richest] >= CHANGE_HOURS * present.cost_per_hour > 0
        if worthwhile and costs[richest].holds and costs[richest].cost_per_hour < present.cost_per_hour:
            hours = (now_ns - memory.since_ns) / NS_PER_S / 3600
            why = f"{richest} would have saved {saved[richest]:.3g} in {hours:.3g} h, more than changing from {name}"
            name = richest
        elif best.cost_per_hour < present.cost_per_hour:
            why = f"{name} stays until {best.size} would have saved {CHANGE_HOURS * present.cost_per_hour:.3g}"
            why += f" ({saved[best.size]:.2g} so far)"
        else:
            why = f"{name} costs least"
    changed = name != memory.size
    kept = SizeMemory(name, now_ns if changed else memory.since_ns, now_ns, {} if changed else saved)
    return SizeChoice(by_name[name], why, tuple(_chosen(e) if e.size == name else e for e in considered), kept)


def _saved(now_ns: int, costs: Mapping[str, SizeConsidered], present: str, memory: SizeMemory) -> dict[str, float]:
    """What each other size would have saved up to now; one that would have cost more starts from nothing."""
    if memory.size != present:
        return {name: 0.0 for name in costs if name != present}
    hours = min(LONGEST_STEP_NS, max(0, now_ns - memory.at_ns)) / NS_PER_S / 3600
    here = costs[present].cost_per_hour
    return {
        name: max(0.0, memory.saved.get(name, 0.0) + (here - each.cost_per_hour) * hours if each.holds else 0.0)
        for name, each in costs.items()
        if name != present
    }


def _chosen(considered: SizeConsidered) -> SizeConsidered:
    return msgspec.structs.replace(considered, chosen=True)
