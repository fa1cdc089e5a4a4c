"""What a violated minute may cost so that a budget of violations is spent where capacity saves most.

The least capacity at a given share of violated minutes makes the density of the load at the capacity equal at all
times (Lagrange): each slot takes the level q whose bound + price · (1 − q) is least. The price that spends the budget
is found on the past by bisection; then busy, noisy hours get a lower level and calm ones a higher one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedbus.control.forecast.protocol import FloatArray

ROUNDS = 16


def violation_prices(bounds: FloatArray, levels: FloatArray, budgets: Sequence[float]) -> tuple[float, ...]:
    """Price per budget in the bounds' unit; ``bounds`` (n, levels), non-decreasing in the level."""
    # Halves between the levels, in the log of what is left: the choice is smoother than the levels carried.
    middle = 1.0 - np.sqrt((1.0 - levels[1:]) * (1.0 - levels[:-1]))
    between = (bounds[:, 1:] + bounds[:, :-1]) / 2.0
    left = 1.0 - np.concatenate([levels, middle])
    costs = np.concatenate([bounds, between], axis=1)
    typical = float(bounds[:, 0].mean()) + 1e-12
    found = []
    for budget in budgets:
        low, high = np.log(typical) - 5.0, np.log(typical) + 12.0
        for _ in range(ROUNDS):
            price = (low + high) / 2.0
            chosen = np.argmin(costs + np.exp(price) * left, axis=1)
            low, high = (price, high) if left[chosen].mean() > budget else (low, price)
        found.append(float(np.exp((low + high) / 2.0)))
    return tuple(found)
