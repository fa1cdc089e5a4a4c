"""Capacity in service over time: the steps of the recent past at hand, all of them in the store."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque

from fedbus.storage.store import CapacityStep, Store

MOST_STEPS = 4_000
SAME = 0.01
SHOWN_NS = 24 * 3_600 * 1_000_000_000


class RegionCapacity:
    """What one region had in service; a step is one only where something changed."""

    def __init__(self, region: str, store: Store, now_ns: int) -> None:
        self._region = region
        self._store = store
        known = store.capacity_steps.between(region, now_ns - SHOWN_NS, now_ns)
        self.steps: deque[CapacityStep] = deque(known, maxlen=MOST_STEPS)

    def serve(self, now_ns: int, capacity_eps: float, instances: int) -> None:
        """So much is in service now."""
        last = self.steps[-1] if self.steps else None
        # What an instance holds is learned, and moves a little with every tick.
        near = last is not None and math.isclose(last.capacity_eps, capacity_eps, rel_tol=SAME)
        if last is None or last.instances != instances or not near:
            step = CapacityStep(now_ns, capacity_eps, instances)
            self._store.capacity_steps.record(self._region, step)
            self.steps.append(step)

    def at(self, time_ns: int) -> float | None:
        """Events/s that what was in service then could hold; None before anything is known."""
        steps = list(self.steps)
        place = bisect_right(steps, time_ns, key=lambda step: step.time_ns)
        return steps[place - 1].capacity_eps if place else None
