"""The policies that need no engine: what each one takes for needed, in events per minute, at headroom 1.

``reactive`` is the rule of the Kubernetes autoscaler: the load last seen. ``reactive_seasonal_day`` and ``…_week`` take
the load of the same time one season ago where that is more. ``static`` has the peak of the history all the time. The
oracles know the future: ``oracle`` serves at once, ``oracle_delayed`` has to order in time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from fedbus.control.simulation.fleet import instances, leading_max, serving, wanted
from fedbus.control.simulation.grid import METRICS_LAG_MIN, MINUTES_PER_DAY, TICK_MIN
from fedbus.control.simulation.outcome import measure

if TYPE_CHECKING:
    from fedbus.control.simulation.fleet import FloatArray
    from fedbus.control.simulation.grid import LoadGrid
    from fedbus.control.simulation.outcome import Outcome

Policy = Literal[
    "predictive", "reactive", "reactive_seasonal_day", "reactive_seasonal_week", "static", "oracle", "oracle_delayed"
]
POLICIES: tuple[Policy, ...] = (
    "predictive", "reactive", "reactive_seasonal_day", "reactive_seasonal_week", "static", "oracle", "oracle_delayed",
)  # fmt: skip
#: Those that use nothing but the past and no engine.
BASELINES: tuple[Policy, ...] = ("reactive", "reactive_seasonal_day", "reactive_seasonal_week")
ORACLES: tuple[Policy, ...] = ("oracle", "oracle_delayed")
SEASON_DAYS: dict[Policy, int] = {"reactive_seasonal_day": 1, "reactive_seasonal_week": 7}


def needed(grid: LoadGrid, policy: Policy, delay_min: int) -> FloatArray:
    """The load that a policy wants to hold, per minute of the grid, in events per minute."""
    if policy == "static":
        past = grid.load[: grid.first]
        peak = np.nanmax(past) if np.isfinite(past).any() else np.nanmax(grid.load)
        return np.full(len(grid), float(peak))
    if policy in ORACLES:
        load = np.nan_to_num(grid.load, nan=0.0)
        # Orders of the minutes whose metrics are still on their way are placed too.
        return load if policy == "oracle" else leading_max(load, delay_min + METRICS_LAG_MIN + 1)
    seen = grid.seen()
    days = SEASON_DAYS.get(policy)
    return seen if days is None else np.maximum(seen, _season_ago(grid, days, delay_min))


def run_oracle(grid: LoadGrid, policy: Policy, delay_min: int) -> tuple[Outcome, FloatArray]:
    """The outcome of an oracle, which needs no headroom, and its instances serving."""
    needs = instances(needed(grid, policy, delay_min), grid.capacity)
    if policy == "oracle":
        return measure(grid, needs, needs, 1.0), needs[grid.first :]
    ordered = wanted(needs)
    there = serving(ordered, delay_min)
    return measure(grid, ordered, there, 1.0), there[grid.first :]


def _season_ago(grid: LoadGrid, days: int, delay_min: int) -> FloatArray:
    """Largest load of a season ago, from now until orders of the next tick serve; 0 where there was none."""
    shift = days * MINUTES_PER_DAY
    ahead = leading_max(np.nan_to_num(grid.load, nan=0.0), delay_min + TICK_MIN)
    return (
        np.concatenate([np.zeros(min(shift, len(ahead))), ahead[:-shift]])
        if shift < len(ahead)
        else np.zeros(len(ahead))
    )
