"""The fleet of a simulation: what is ordered, and what serves.

An instance ordered at minute t serves from t + delay on. Scale-in takes effect at once (what is still starting is
taken back first), but never below the largest need of the last ``STABILISATION_MIN`` minutes. So the number serving is
the smallest number that was wanted at any time within the delay.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

STABILISATION_MIN = 5
MINIMUM_INSTANCES = 1


def instances(load: FloatArray, capacity: float) -> FloatArray:
    """Instances that hold a load, at least one; the load in the unit of ``capacity``."""
    return np.maximum(MINIMUM_INSTANCES, np.ceil(load / capacity - 1e-9))


def wanted(needs: FloatArray) -> FloatArray:
    """Instances in service or ordered, per minute, when so many are needed."""
    return trailing_max(needs, STABILISATION_MIN)


def serving(ordered: FloatArray, delay_min: int) -> FloatArray:
    """Instances that serve, per minute, of those ordered; the fleet of the first minute is there already."""
    before = np.concatenate([np.full(delay_min, ordered[0]), ordered])
    return -_sliding_max(-before, delay_min + 1)


def trailing_max(values: FloatArray, width: int) -> FloatArray:
    """Largest of the last ``width`` values, the present one among them."""
    return _sliding_max(np.concatenate([np.full(width - 1, -np.inf), values]), width)


def leading_max(values: FloatArray, width: int) -> FloatArray:
    """Largest of the next ``width`` values, the present one among them."""
    return _sliding_max(np.concatenate([values, np.full(width - 1, -np.inf)]), width)


def _sliding_max(values: FloatArray, width: int) -> FloatArray:
    """Largest of each ``width`` neighbours, by windows of doubled width: a year takes a hundredth of a second."""
    have = 1
    while have < width:
        more = min(have, width - have)
        values = np.maximum(values[:-more], values[more:])
        have += more
    return values


class _Extreme:
    """The largest of the last ``width`` values, one by one (a monotone queue)."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._kept: deque[tuple[int, int]] = deque()

    def push(self, at: int, value: int) -> int:
        kept = self._kept
        while kept and kept[-1][1] <= value:
            kept.pop()
        kept.append((at, value))
        if kept[0][0] <= at - self._width:
            kept.popleft()
        return kept[0][1]


class Fleet:
    """The same, minute by minute, for policies that learn from what they see. Tens of instances, so plain integers."""

    def __init__(self, delay_min: int) -> None:
        self._minute = 0
        self._largest = _Extreme(STABILISATION_MIN)
        self._least = _Extreme(delay_min + 1)

    def step(self, need: int) -> tuple[int, int]:
        """The next minute: instances ordered (or in service) and instances serving, when ``need`` are needed."""
        self._minute += 1
        ordered = self._largest.push(self._minute, max(MINIMUM_INSTANCES, need))
        return ordered, -self._least.push(self._minute, -ordered)
