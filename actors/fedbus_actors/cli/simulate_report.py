"""The report of a simulation: a page with the table, plots, and the figures as JSON, in a directory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fedbus.control.simulation.frontier import pareto
from fedbus.control.simulation.grid import MINUTES_PER_DAY
from fedbus.errors import EnvironmentUnusableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from fedbus.control.simulation.fleet import FloatArray
    from fedbus.control.simulation.policy import Policy
    from fedbus.control.simulation.simulation import Simulation

COLOURS = {
    "predictive": "#0b6e4f", "reactive": "#d62828", "reactive_seasonal_day": "#ff9f1c",
    "reactive_seasonal_week": "#8d6a9f", "static": "#6c757d", "oracle": "#000000", "oracle_delayed": "#3a86ff",
}  # fmt: skip
#: More points than this are no longer seen: each then shows the largest of its share.
MOST_POINTS = 4_000
WIDE, HIGH = 11.0, 4.0
HIGHEST_VIOLATION_PCT, HIGHEST_COST = 5.0, 6.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check() -> None:
    """Whether there is what it takes; asked before the simulation and not after it."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise EnvironmentUnusableError(
            "--report needs matplotlib: pip install matplotlib, or leave --report out"
        ) from None
    mpl.use("agg")
    mpl.rcParams.update({"svg.hashsalt": "fedbus", "font.size": 9})


def write(simulation: Simulation, directory: Path) -> list[Path]:
    """Write report.md, simulation.json and the plots; the files."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        plots = [_draw(directory / "frontier.svg", lambda axes: _frontier(axes, simulation))]
        for policy in simulation.policies:
            whole, worst = f"load_{policy}.svg", f"worst_day_{policy}.svg"
            days = _worst_day(simulation, policy)
            plots.append(_draw(directory / whole, _against(simulation, policy, slice(None))))
            plots.append(_draw(directory / worst, _against(simulation, policy, days)))
        figures = directory / "simulation.json"
        figures.write_bytes(msgspec.json.format(msgspec.json.encode(simulation.as_json()), indent=2))
        page = directory / "report.md"
        page.write_text(_page(simulation, plots), encoding="utf-8")
    except OSError as error:
        raise EnvironmentUnusableError(f"{directory}: the report cannot be written: {error}") from None
    return [page, figures, *plots]


def _draw(file: Path, plot: Callable[[Axes], None]) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, HIGH), layout="constrained")
    plot(figure.add_subplot())
    figure.savefig(file, metadata={"Date": None})
    return file


def _frontier(axes: Axes, simulation: Simulation) -> None:
    highest = 1.0
    for policy, outcomes in simulation.outcomes.items():
        violations, costs = zip(*pareto(outcomes), strict=True)
        highest = max(highest, *costs)
        axes.plot(violations, costs, marker="o", markersize=3, label=policy, color=COLOURS[policy])
    budget = simulation.settings.budget_pct
    axes.axvline(budget, color="black", linewidth=0.8, linestyle=":")
    axes.set(
        xlim=(-0.05, HIGHEST_VIOLATION_PCT), ylim=(0.9, min(HIGHEST_COST, 1.05 * highest)),
        xlabel="minutes violated, % (dotted: the budget)", ylabel="cost (1 = oracle)",
        title=f"{simulation.trace}: cost over violations, {simulation.settings.delay_min} min delay",
    )  # fmt: skip
    axes.legend(loc="upper right")


def _against(simulation: Simulation, policy: Policy, part: slice) -> Callable[[Axes], None]:
    """Load against capacity in a part of the minutes judged, violations marked."""
    grid = simulation.grid

    def plot(axes: Axes) -> None:
        load = grid.judged[part] / 60
        capacity = simulation.serving[policy][part] * grid.capacity / 60
        share = max(1, -(-len(load) // MOST_POINTS))
        begin = grid.first + (part.start or 0)
        times = _times(grid.time_ns(begin), len(load), share)
        axes.fill_between(times, _largest(capacity, share), step="post", alpha=0.25, color=COLOURS[policy])
        axes.step(times, _largest(capacity, share), where="post", color=COLOURS[policy], label=f"capacity ({policy})")
        axes.plot(times, _largest(load, share), color="black", linewidth=0.8, label="load")
        violated = _largest(np.where(load > capacity * (1 + 1e-9), load, np.nan), share)
        axes.plot(times, violated, "o", color="#d62828", markeredgecolor="black", markersize=4, label="violated")
        axes.set(ylabel="events/s", title=f"{simulation.trace}: load against capacity, {policy}")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left")

    return plot


def _largest(values: FloatArray, share: int) -> FloatArray:
    """The largest of each ``share`` values; NaN where all are."""
    padded = np.concatenate([values, np.full(-len(values) % share, np.nan)]).reshape(-1, share)
    found = np.where(np.isfinite(padded), padded, -np.inf).max(axis=1)
    return np.where(np.isfinite(found), found, np.nan)


def _times(start_ns: int, minutes: int, share: int) -> Any:
    """As matplotlib takes them, though its types do not say so."""
    start = _EPOCH + timedelta(microseconds=start_ns // 1000)
    return [start + timedelta(minutes=each) for each in range(0, minutes, share)]


def _worst_day(simulation: Simulation, policy: Policy) -> slice:
    """The day with the most violations, else the one with the largest load."""
    grid = simulation.grid
    load = np.nan_to_num(grid.judged, nan=0.0)
    violated = load > simulation.serving[policy] * grid.capacity * (1 + 1e-9)
    starts = range(0, max(1, len(load) - MINUTES_PER_DAY + 1), MINUTES_PER_DAY)
    parts = [slice(start, start + MINUTES_PER_DAY) for start in starts]
    return max(parts, key=lambda part: (int(violated[part].sum()), float(load[part].max())))


def _page(simulation: Simulation, plots: Sequence[Path]) -> str:
    grid, settings = simulation.grid, simulation.settings
    about = (
        f"{len(grid) / MINUTES_PER_DAY:.3g} days in steps of {grid.step_s} s, {grid.judged_days:.3g} of them judged;"
        f" an instance ordered serves after {settings.delay_min} min and holds {grid.capacity / 60:,.4g} events/s."
        f" Budget: {settings.budget_pct:g} % of the minutes violated."
    )
    lines = [
        f"# {simulation.trace}",
        "",
        about,
        "",
        *(f"- {note}" for note in simulation.notes),
        "",
        *_table(simulation),
        "",
        *(f"- {line}" for line in _forecast(simulation)),
        "",
        *(f"![{plot.stem}]({plot.name})\n" for plot in plots),
    ]
    return "\n".join(lines)


def _table(simulation: Simulation) -> list[str]:
    at_budget = simulation.cost_at(simulation.settings.budget_pct)
    columns = (
        "policy", "violated %", "violated min", "shed %", "instance-hours", "cost / oracle", "cost at budget",
        "actions/day", "under acc. %", "over acc. %", "under time %", "over time %",
    )  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, each in simulation.policies.items():
        cost = at_budget.get(name)
        cells: list[Any] = [
            name, f"{each.violation_pct:.3f}", each.violation_min, f"{each.shed_pct:.4f}", f"{each.instance_hours:.1f}",
            f"{each.cost_vs_oracle:.3f}", "-" if cost is None else f"{cost:.3f}", f"{each.actions_per_day:.1f}",
            f"{each.under_accuracy_pct:.3f}", f"{each.over_accuracy_pct:.2f}", f"{each.under_time_pct:.2f}",
            f"{each.over_time_pct:.2f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _forecast(simulation: Simulation) -> list[str]:
    if simulation.forecast is None:
        return []
    figures = msgspec.to_builtins(simulation.forecast)
    return [
        f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}" for name, value in figures.items()
    ]
