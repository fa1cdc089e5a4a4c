"""A simulation: all policies asked for over one load, at one delay, compared at equal violations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fedbus.control.capacity import InstanceSize
from fedbus.control.simulation.accuracy import ForecastFigures
from fedbus.control.simulation.fleet import FloatArray
from fedbus.control.simulation.frontier import HEADROOMS, STATIC_HEADROOMS, cheapest, pareto, run, sweep
from fedbus.control.simulation.grid import MINUTE_S, MINUTES_PER_DAY, LoadGrid
from fedbus.control.simulation.outcome import Outcome
from fedbus.control.simulation.policy import ORACLES, POLICIES, Policy, needed, run_oracle
from fedbus.control.simulation.predictive import Predictive
from fedbus.control.trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fedbus.control.trace import Trace

#: Share of minutes violated, in percent, at which costs are compared.
BUDGET_PCT = 0.5
DELAY_MIN = 5
#: Budgets the predictive policy is asked for, in percent: its frontier.
BUDGETS_PCT = (
    0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0,
)  # fmt: skip
#: Fewer of them where more than so many days are judged: each costs minutes then.
FEW_BUDGETS_PCT, MANY_DAYS = (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0, 2.0), 100
#: A rise by this much within the delay, unseen when orders would have had to be placed, is called a jump.
JUMP = 1.5


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated. ``delay_min``: minutes from order to service; ``sizes``: the first is the one instances have.

    Without sizes an instance holds a fortieth of the load that all but one minute in a thousand stay below.
    """

    delay_min: int = DELAY_MIN
    budget_pct: float = BUDGET_PCT
    policies: tuple[Policy, ...] = POLICIES
    sizes: tuple[InstanceSize, ...] = ()
    triggers: tuple[Trigger, ...] = ()


class SizeCost(msgspec.Struct, frozen=True):
    """What the predictive policy (else the last one simulated) would have cost with instances of this size."""

    size: str
    events_per_s: float
    violation_pct: float
    instance_hours: float
    cost: float


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The result. ``serving``: instances per minute judged; ``outcomes``: one per knob tried."""

    trace: str
    grid: LoadGrid
    settings: Settings
    policies: dict[Policy, Outcome]
    outcomes: dict[Policy, list[Outcome]]
    serving: dict[Policy, FloatArray]
    forecast: ForecastFigures | None
    sizes: tuple[SizeCost, ...]
    notes: tuple[str, ...]

    def cost_at(self, budget_pct: float) -> dict[Policy, float | None]:
        """Cost of the cheapest knob within the budget, per policy; None where no knob keeps within it."""
        found = {name: cheapest(outcomes, budget_pct) for name, outcomes in self.outcomes.items()}
        return {name: best.cost_vs_oracle if best else None for name, best in found.items()}

    def delivered(self) -> dict[float, float]:
        """Violations of the predictive policy by the budget it was asked for, in percent."""
        return {each.knob: each.violation_pct for each in self.outcomes.get("predictive", [])}

    def jumps_pct(self, policy: Policy) -> float:
        """Share of the policy's violation minutes that are jumps of the load nobody could have ordered for in time."""
        grid = self.grid
        violated = np.flatnonzero(grid.judged > self.serving[policy] * grid.capacity * (1 + 1e-9)) + grid.first
        if not len(violated):
            return 0.0
        known = grid.seen()[np.maximum(0, violated - self.settings.delay_min)]
        return 100.0 * float((grid.load[violated] > JUMP * np.maximum(known, grid.capacity)).mean())

    def as_json(self) -> dict[str, Any]:
        """The contract's object."""
        budgets = {f"{each:g}": self.cost_at(each) for each in sorted({BUDGET_PCT, self.settings.budget_pct})}
        policies = {name: _named_knob(name, outcome) for name, outcome in self.policies.items()}
        return {
            "trace": self.trace,
            "delay_min": self.settings.delay_min,
            "budget_pct": self.settings.budget_pct,
            "step_s": self.grid.step_s,
            "days": round(len(self.grid) / MINUTES_PER_DAY, 3),
            "days_judged": round(self.grid.judged_days, 3),
            "instance_eps": self.grid.capacity / MINUTE_S,
            "policies": policies,
            "frontier": {name: pareto(outcomes) for name, outcomes in self.outcomes.items()},
            "cost_at_budget": budgets,
            "asked_and_delivered_pct": {f"{asked:g}": got for asked, got in self.delivered().items()},
            "forecast": msgspec.to_builtins(self.forecast),
            "sizes": msgspec.to_builtins(self.sizes),
            "notes": self.notes,
        }


def simulate(
    name: str,
    trace: Trace,
    settings: Settings | None = None,
    cpu_s: Callable[[], float] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Simulation:
    """Simulate the policies over a trace. Deterministic, but for the CPU time that ``cpu_s`` reads.

    ``progress`` is told the share done. ConfigurationError if the trace is too short or has no load.
    """
    settings = settings or Settings()
    sizes = settings.sizes
    grid = LoadGrid.of(trace, sizes[0].events_per_s if sizes else None)
    delay_min, notes = settings.delay_min, list(grid.notes)
    policies: dict[Policy, Outcome] = {}
    outcomes: dict[Policy, list[Outcome]] = {}
    there: dict[Policy, FloatArray] = {}
    figures = None
    wanted = needed(grid, "reactive", delay_min)
    for policy in (each for each in POLICIES if each in settings.policies):
        if policy == "predictive":
            ahead = Predictive(grid, delay_min, _budgets(grid, settings), settings.triggers, cpu_s)
            ahead.run(progress)
            outcomes[policy], figures = ahead.outcomes(), ahead.figures()
            policies[policy], there[policy] = ahead.outcome(settings.budget_pct), ahead.serving(settings.budget_pct)
            wanted = ahead.needs(settings.budget_pct)
        elif policy in ORACLES:
            policies[policy], there[policy] = run_oracle(grid, policy, delay_min)
            outcomes[policy] = [policies[policy]]
        else:
            needs = needed(grid, policy, delay_min)
            outcomes[policy] = sweep(grid, delay_min, needs, STATIC_HEADROOMS if policy == "static" else HEADROOMS)
            best = cheapest(outcomes[policy], settings.budget_pct)
            if best is None:
                best = min(outcomes[policy], key=lambda each: (each.violation_pct, each.cost_vs_oracle))
                notes.append(f"{policy}: no headroom tried keeps violations within {settings.budget_pct:g} %")
            policies[policy], there[policy] = run(grid, delay_min, needs, best.knob)
    return Simulation(
        trace=name,
        grid=grid,
        settings=settings,
        policies=policies,
        outcomes=outcomes,
        serving=there,
        forecast=figures,
        sizes=tuple(_size_cost(grid, each, wanted, delay_min) for each in sizes),
        notes=tuple(notes),
    )


def _budgets(grid: LoadGrid, settings: Settings) -> Sequence[float]:
    tried = BUDGETS_PCT if grid.judged_days <= MANY_DAYS else FEW_BUDGETS_PCT
    return sorted({*tried, settings.budget_pct})


def _size_cost(grid: LoadGrid, size: InstanceSize, wanted: FloatArray, delay_min: int) -> SizeCost:
    outcome, _ = run(replace(grid, capacity=size.events_per_s * MINUTE_S), delay_min, wanted, 1.0)
    hours = outcome.instance_hours
    return SizeCost(size.name, size.events_per_s, outcome.violation_pct, hours, hours * size.cost)


def _named_knob(policy: Policy, outcome: Outcome) -> dict[str, Any]:
    """An outcome whose knob has its own name."""
    found: dict[str, Any] = msgspec.to_builtins(outcome)
    knob = found.pop("knob")
    return {**found, ("asked_pct" if policy == "predictive" else "headroom"): knob}
