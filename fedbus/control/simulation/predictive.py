"""The predictive policy: the live engine, assurance and triggers, driven over the grid tick by tick.

All budgets run in lockstep over one forecast per tick, so that a year costs its forecasts once. Nothing sees more than
the live manager would: the history ends with the newest minute known, violations are told when they are known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fedbus.control.assurance import Assurance
from fedbus.control.expected import largest
from fedbus.control.forecast.engine import ForecastEngine
from fedbus.control.forecast.settings import EngineSettings
from fedbus.control.load import LoadHistory, LoadSample
from fedbus.control.outlook import Outlook
from fedbus.control.simulation.accuracy import Accuracy
from fedbus.control.simulation.fleet import Fleet, instances
from fedbus.control.simulation.grid import METRICS_LAG_MIN, MINUTE_NS, MINUTE_S, MINUTES_PER_DAY, TICK_MIN
from fedbus.control.simulation.outcome import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fedbus.control.forecast.protocol import Forecast
    from fedbus.control.simulation.accuracy import ForecastFigures
    from fedbus.control.simulation.fleet import FloatArray
    from fedbus.control.simulation.grid import LoadGrid
    from fedbus.control.simulation.outcome import Outcome
    from fedbus.control.trigger import Trigger

#: The feedback on violations needs something to have seen.
WARM_UP_MIN = MINUTES_PER_DAY
#: A day between refits, but not more than so many over the whole: a year must not take an hour.
MOST_FITS = 40
REGION = "simulated"


class _Run:
    """One budget: what it ordered, what served, and what it made of its violations."""

    def __init__(self, budget_pct: float, grid: LoadGrid, begin: int, delay_min: int) -> None:
        self.budget_pct = budget_pct
        self.assurance = Assurance(budget=budget_pct / 100.0)
        self.ordered = np.zeros(len(grid) - begin)
        self.serving = np.zeros(len(grid) - begin)
        self.needs = np.zeros(len(grid) - begin)
        self._grid, self._begin = grid, begin
        self._fleet = Fleet(delay_min)
        self._told = begin

    def step(self, forecast: Forecast, floor_eps: float, span: tuple[int, int, int], seen: list[int]) -> None:
        """The minutes from the first to the second of ``span``; orders until then serve before the third.

        ``seen``: instances that the newest load known needs, per minute.
        """
        minute, end, until = span
        grid, begin = self._grid, self._begin
        self._tell(minute + 1 - METRICS_LAG_MIN)
        eps = self.assurance.required_eps(forecast, grid.time_ns(minute), grid.time_ns(until))[0]
        load = max(floor_eps, eps) * MINUTE_S
        ahead = math.ceil(load / grid.capacity - 1e-9)
        self.needs[minute - begin : end - begin] = load
        for at, now in zip(range(minute - begin, end - begin), seen, strict=True):
            self.ordered[at], self.serving[at] = self._fleet.step(max(ahead, now))

    def _tell(self, known_to: int) -> None:
        """Tell the assurance of the minutes that have become known."""
        if known_to <= self._told:
            return
        grid, begin = self._grid, self._begin
        load = grid.load[self._told : known_to]
        capacity = self.serving[self._told - begin : known_to - begin] * grid.capacity
        known = int(np.isfinite(load).sum())
        if known:
            violated = int(np.count_nonzero(load > capacity * (1 + 1e-9)))
            self.assurance = self.assurance.seen(known, violated)
        self._told = known_to


class Predictive:
    """The policy over a grid. ``cpu_s``: reads the CPU time of the process, if ticks are to be measured."""

    def __init__(
        self,
        grid: LoadGrid,
        delay_min: int,
        budgets_pct: Sequence[float],
        triggers: Sequence[Trigger] = (),
        cpu_s: Callable[[], float] | None = None,
    ) -> None:
        self.grid, self.delay_min = grid, delay_min
        self._triggers = tuple(triggers)
        self._cpu_s = cpu_s or (lambda: math.nan)
        self._begin = max(grid.first - WARM_UP_MIN, grid.first // 2)
        self._runs = {budget: _Run(budget, grid, self._begin, delay_min) for budget in budgets_pct}
        span_s = (len(grid) - self._begin) * MINUTE_S
        refit_every_s = max(86_400.0, span_s / MOST_FITS)
        self._engine = ForecastEngine(REGION, EngineSettings(lead_s=delay_min * 60.0, refit_every_s=refit_every_s))
        self._outlook = Outlook(REGION)
        self._history = LoadHistory()
        self._known_to = 0
        self._accuracy = Accuracy(grid, delay_min)
        self._ticks, self._fits, self._tick_cpu_s, self._fit_cpu_s = 0, 0, 0.0, 0.0

    def run(self, progress: Callable[[float], None] | None = None) -> None:
        """Go over the whole grid; ``progress`` is told the share done."""
        grid = self.grid
        seen = instances(grid.seen(), grid.capacity).astype(int).tolist()
        self._learn(self._begin + 1 - METRICS_LAG_MIN)
        for minute in self._tick_minutes():
            end = min(len(grid), self._next_tick(minute))
            self._tick(minute, end, seen[minute:end])
            if progress is not None:
                progress((end - self._begin) / (len(grid) - self._begin))

    def outcome(self, budget_pct: float) -> Outcome:
        """What the run with this budget came to."""
        run = self._runs[budget_pct]
        return measure(self.grid, self._judged(run.ordered), self._judged(run.serving), budget_pct)

    def outcomes(self) -> list[Outcome]:
        """What each budget came to."""
        return [self.outcome(budget) for budget in self._runs]

    def serving(self, budget_pct: float) -> FloatArray:
        """Instances serving, per minute judged."""
        return self._judged(self._runs[budget_pct].serving)

    def needs(self, budget_pct: float) -> FloatArray:
        """The load wanted to be held, in events per minute, per minute of the grid (0 before the run)."""
        wanted = np.maximum(self._runs[budget_pct].needs, self.grid.seen()[self._begin :])
        return np.concatenate([np.zeros(self._begin), wanted])

    def figures(self) -> ForecastFigures:
        """How good the forecasts were, and what they cost."""
        measured = math.isfinite(self._tick_cpu_s) and math.isfinite(self._fit_cpu_s)
        tick_cpu_s, fit_cpu_s = (self._tick_cpu_s, self._fit_cpu_s) if measured else (None, None)
        return self._accuracy.figures(tick_cpu_s, fit_cpu_s, self._ticks, self._fits)

    def _tick(self, minute: int, end: int, seen: list[int]) -> None:
        grid, now_ns = self.grid, self.grid.time_ns(minute)
        until_ns = grid.time_ns(end + self.delay_min)
        self._learn(minute + 1 - METRICS_LAG_MIN)
        before_s = self._cpu_s()
        self._engine.observe(self._history, self._triggers)
        fit_s = self._fit_if_due(now_ns)
        lead_s = self.delay_min * 60.0
        forecast = self._engine.forecast(now_ns, (until_ns - now_ns) / 1e9, lead_s)
        expected = self._outlook.expect(self._history, self._triggers, now_ns, until_ns)
        self._tick_cpu_s += self._cpu_s() - before_s - fit_s
        self._ticks += 1
        # Ticks of a coarse series are long: what is needed at their end is not to be paid from their beginning.
        for at in range(minute, end, TICK_MIN):
            part = min(end, at + TICK_MIN)
            span = (at, part, part + self.delay_min)
            announced = largest(expected, grid.time_ns(at), grid.time_ns(span[2])) if expected else None
            for run in self._runs.values():
                run.step(forecast, announced[0] if announced else 0.0, span, seen[at - minute : part - minute])
        if minute >= grid.first:
            self._accuracy.add(forecast, minute)

    def _fit_if_due(self, now_ns: int) -> float:
        """Fit in the foreground what the live forecaster fits in the background; CPU seconds it took."""
        if not self._engine.fit_due(now_ns):
            return 0.0
        before_s = self._cpu_s()
        self._engine.adopt(self._engine.fit(self._history, self._triggers))
        spent_s = self._cpu_s() - before_s
        self._fits += 1
        self._fit_cpu_s += spent_s
        return spent_s

    def _learn(self, known_to: int) -> None:
        """Take the minutes before ``known_to`` into the history."""
        grid = self.grid
        oldest = max(self._known_to, known_to - self._history.maximum_slots)
        for minute in range(oldest, known_to):
            events = float(grid.load[minute])
            if not math.isnan(events):
                self._history.append(LoadSample(grid.time_ns(minute), events))
        self._known_to = max(self._known_to, known_to)

    def _tick_minutes(self) -> list[int]:
        minutes, minute = [], self._begin
        while minute < len(self.grid):
            minutes.append(minute)
            minute = self._next_tick(minute)
        return minutes

    def _next_tick(self, minute: int) -> int:
        """Ticks come at whole multiples of their length since the epoch."""
        tick, of_epoch = self.grid.tick_min, self.grid.time_ns(minute) // MINUTE_NS
        return minute + tick - of_epoch % tick

    def _judged(self, values: FloatArray) -> FloatArray:
        return values[self.grid.first - self._begin :]
