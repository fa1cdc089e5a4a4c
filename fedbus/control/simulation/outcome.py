"""The outcome: what a number of instances over time did to the load, and what it cost.

A violation minute is one whose load exceeds the capacity serving. Elasticity as the SPEC Research Group measures it
(Herbst et al., "Ready for Rain?", SPEC-RG-2016-01): accuracy is the mean number of instances too few or too many,
relative to those demanded; time share is the part of the time in which there were too few or too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fedbus.control.simulation.grid import MINUTES_PER_DAY

if TYPE_CHECKING:
    from fedbus.control.simulation.fleet import FloatArray
    from fedbus.control.simulation.grid import LoadGrid

MINUTES_PER_HOUR = 60


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one run over the minutes judged.

    ``knob``: the headroom (a factor on the need), or for the predictive policy the share of violations asked for in
    percent. ``cost_vs_oracle``: instance-minutes over those of the clairvoyant without delay. Shares in percent.
    """

    knob: float
    violation_pct: float
    violation_min: int
    shed_pct: float
    instance_hours: float
    cost_vs_oracle: float
    actions_per_day: float
    under_accuracy_pct: float
    over_accuracy_pct: float
    under_time_pct: float
    over_time_pct: float
    peak_instances: int


def measure(grid: LoadGrid, ordered: FloatArray, serving: FloatArray, knob: float) -> Outcome:
    """The outcome of a run; the arrays cover the whole grid, or the judged part of it."""
    known = np.isfinite(grid.judged)
    load, demanded = grid.judged[known], np.maximum(grid.demanded[known], 0.0)
    served = serving[-len(known) :]
    there = served[known]
    short = load - there * grid.capacity
    violated = short > grid.capacity * 1e-9
    missing, idle = np.maximum(demanded - there, 0.0), np.maximum(there - demanded, 0.0)
    base = np.maximum(demanded, 1.0)
    changes = int(np.count_nonzero(np.diff(ordered[-len(known) :])))
    return Outcome(
        knob=float(knob),
        violation_pct=100.0 * float(violated.mean()),
        violation_min=int(violated.sum()),
        shed_pct=100.0 * float(short[violated].sum()) / max(float(load.sum()), 1e-12),
        instance_hours=float(served.sum()) / MINUTES_PER_HOUR,
        cost_vs_oracle=float(there.sum()) / max(float(demanded.sum()), 1.0),
        actions_per_day=changes * MINUTES_PER_DAY / len(known),
        under_accuracy_pct=100.0 * float((missing / base).mean()),
        over_accuracy_pct=100.0 * float((idle / base).mean()),
        under_time_pct=100.0 * float((missing > 0).mean()),
        over_time_pct=100.0 * float((idle > 0).mean()),
        peak_instances=int(served.max()),
    )
