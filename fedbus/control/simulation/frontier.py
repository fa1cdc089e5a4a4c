"""The frontier of a policy: cost over violations, one point per headroom, and the cheapest one within a budget.

Every policy can buy fewer violations with more headroom, so costs compare at equal violations only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedbus.control.simulation.fleet import instances, serving, wanted
from fedbus.control.simulation.outcome import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fedbus.control.simulation.fleet import FloatArray
    from fedbus.control.simulation.grid import LoadGrid
    from fedbus.control.simulation.outcome import Outcome

#: Factors on the need that are tried, as close together as the budgets that prediction is asked for: with steps of 8 %
#: baselines would look up to 6 % dearer than they are.
HEADROOMS: tuple[float, ...] = tuple(0.9 * 1.02**power for power in range(125))
#: The peak of the history may be a burst that never comes again.
STATIC_HEADROOMS: tuple[float, ...] = tuple(0.9 * 1.04**power for power in range(-96, 64))
#: Of the history before the judged part, as much as the fleet remembers.
LEAD_IN_MIN = 120


def run(grid: LoadGrid, delay_min: int, needs_per_min: FloatArray, headroom: float) -> tuple[Outcome, FloatArray]:
    """The outcome of wanting to hold ``needs_per_min`` × headroom (events per minute, per minute of the grid).

    And the instances serving, per minute judged.
    """
    begin = max(0, grid.first - LEAD_IN_MIN)
    ordered = wanted(instances(needs_per_min[begin:] * headroom, grid.capacity))
    there = serving(ordered, delay_min)
    judged = slice(grid.first - begin, None)
    return measure(grid, ordered[judged], there[judged], headroom), there[judged]


def sweep(
    grid: LoadGrid,
    delay_min: int,
    needs: FloatArray | Callable[[float], FloatArray],
    headrooms: Iterable[float] = HEADROOMS,
) -> list[Outcome]:
    """An outcome per headroom. ``needs``: events per minute at headroom 1, or a function that gives them per knob."""
    if callable(needs):
        return [_named(run(grid, delay_min, needs(knob), 1.0)[0], knob) for knob in headrooms]
    return [run(grid, delay_min, needs, headroom)[0] for headroom in headrooms]


def cheapest(outcomes: Sequence[Outcome], budget_pct: float) -> Outcome | None:
    """The cheapest outcome whose violations keep within the budget; None if none does."""
    within = [each for each in outcomes if each.violation_pct <= budget_pct + 1e-9]
    return min(within, key=lambda each: (each.cost_vs_oracle, each.violation_pct), default=None)


def pareto(outcomes: Iterable[Outcome]) -> list[tuple[float, float]]:
    """(violation_pct, cost_vs_oracle) of the outcomes that no other beats in both, fewest violations first."""
    found: list[tuple[float, float]] = []
    for violation, cost in sorted((each.violation_pct, each.cost_vs_oracle) for each in outcomes):
        if not found or cost < found[-1][1]:
            found.append((violation, cost))
    return found


def _named(outcome: Outcome, knob: float) -> Outcome:
    return msgspec.structs.replace(outcome, knob=float(knob))
