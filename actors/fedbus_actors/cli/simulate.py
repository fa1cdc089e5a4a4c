"""``fedbus simulate``: what a scaling policy would have done to a load of one's own; no cluster needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedbus import clock
from fedbus.cli.control_api import as_json_option, print_json
from fedbus.cli.tables import show, table
from fedbus.control.capacity import InstanceSize
from fedbus.control.trace import Trace, read_trace
from fedbus.errors import ConfigurationError
from fedbus_actors.cli.simulate_progress import simulating

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedbus.control.simulation.simulation import Simulation
    from fedbus.control.trigger import Trigger

#: The contract's names, spelt out because the simulation itself takes seconds to import.
POLICIES = (
    "predictive", "reactive", "reactive_seasonal_day", "reactive_seasonal_week", "static", "oracle", "oracle_delayed",
)  # fmt: skip
LONGEST_DELAY_MIN, LARGEST_BUDGET_PCT = 240, 20


class Size(click.ParamType[Any]):
    """A size of instance: ``NAME=EVENTS_PER_S`` or ``NAME=EVENTS_PER_S@PRICE`` (per hour)."""

    name = "NAME=EVENTS_PER_S[@PRICE]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> InstanceSize:
        """Parse; a rate or price that is not above 0 is wrong usage."""
        if isinstance(value, InstanceSize):
            return value
        name, _, figures = str(value).partition("=")
        rate, _, price = figures.partition("@")
        try:
            events_per_s, cost = float(rate), float(price or 1)
        except ValueError:
            events_per_s = cost = 0.0
        if not (name and 0 < events_per_s < float("inf") and 0 < cost < float("inf")):
            self.fail(f"{value!r} is no {self.name}, such as small=5000@0.04", param, ctx)
        return InstanceSize(name, events_per_s, cost=cost)


@click.command()
@click.argument("trace", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--policy", "policies", multiple=True, type=click.Choice(POLICIES), help="Repeatable [default: all].")
@click.option(
    "--delay", "delay_min", type=click.IntRange(0, LONGEST_DELAY_MIN), default=5, show_default=True,
    help="Minutes until an instance ordered serves.",
)  # fmt: skip
@click.option(
    "--budget", "budget_pct", type=click.FloatRange(0.01, LARGEST_BUDGET_PCT), default=0.5, show_default=True,
    help="Percent of the minutes that may be violated.",
)  # fmt: skip
@click.option("--capacity", type=click.FloatRange(0, min_open=True), help="Events/s that an instance holds.")
@click.option("--price", type=click.FloatRange(0, min_open=True), default=1.0, help="Of an instance per hour.")
@click.option("--size", "sizes", multiple=True, type=Size(), help="A size; repeatable, the first one is simulated.")
@click.option(
    "--triggers", "triggers_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Announced events, YAML or JSON, as in a federation file.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(path_type=Path, file_okay=False), help="Plots and a table (needs matplotlib)."
)
@as_json_option
def simulate(
    trace: Path, capacity: float | None, price: float, sizes: Sequence[InstanceSize], triggers_file: Path | None,
    report: Path | None, *, as_json: bool, **what: Any,
) -> None:  # fmt: skip
    """Tell what a scaling policy would have done to the load in TRACE, a CSV file of `ds,y`.

    ds: time in UTC, evenly spaced; y: events in the interval, blank where unknown. Policies are compared at equal
    violations; the predictive one is the engine and planner of the live manager.
    """
    if capacity is not None and sizes:
        raise click.UsageError("give what an instance holds once: --capacity, or --size")
    one_thread()
    from fedbus_actors.cli import simulate_report

    if report is not None:
        simulate_report.check()
    series, triggers = read_series(trace), _triggers(triggers_file)
    if capacity is not None:
        sizes = (InstanceSize("instance", capacity, cost=price),)
    what["policies"] = tuple(what["policies"]) or POLICIES
    found = run(trace, series, sizes=tuple(sizes), triggers=triggers, **what)
    written = simulate_report.write(found, report) if report is not None else []
    if as_json:
        print_json(found.as_json())
        return
    show(*tables(found, price if not sizes else None))
    for file in written:
        click.echo(f"written: {file}")


def one_thread() -> None:
    """Keep linear algebra on one thread (before NumPy is imported): its matrices are small, and threads only fight."""
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def read_series(file: Path) -> Trace:
    """A trace from a file; ConfigurationError naming the file where it cannot be read."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return read_trace(lines)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error.detail}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None


def run(file: Path, series: Trace, **settings: Any) -> Simulation:
    """Simulate with a progress bar on stderr; ConfigurationError naming the file where nothing can be said."""
    from fedbus.control.simulation.simulation import Settings
    from fedbus.control.simulation.simulation import simulate as simulate_all

    try:
        with simulating(f"{file.stem}, {settings.get('delay_min', 5)} min") as progress:
            return simulate_all(file.stem, series, Settings(**settings), clock.cpu_s, progress)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error.detail}") from None


def tables(found: Simulation, price: float | None) -> Iterable[Any]:
    """The result as tables; with ``price`` also what the instances would have cost."""
    grid, settings = found.grid, found.settings
    held = f"an instance holds {grid.capacity / 60:,.4g} events/s"
    title = f"{found.trace}: {grid.judged_days:.3g} days judged, {settings.delay_min} min delay, {held}"
    columns = [
        "policy", "#violated %", "#minutes", "#shed %", "#instance-hours", "#× oracle", "#actions/day", "#too few %",
        "#too many %", "#at most", "how",
    ]  # fmt: skip
    rows = []
    for name, each in found.policies.items():
        how = f"asked for {each.knob:g} %" if name == "predictive" else f"headroom {each.knob:.2f}"
        rows.append((
            name, f"{each.violation_pct:.2f}", each.violation_min, f"{each.shed_pct:.3f}",
            f"{each.instance_hours:,.0f}", f"{each.cost_vs_oracle:.2f}", f"{each.actions_per_day:.0f}",
            f"{each.under_accuracy_pct:.2f}", f"{each.over_accuracy_pct:.1f}", each.peak_instances,
            how if price is None else f"{how}, costs {each.instance_hours * price:,.2f}",
        ))  # fmt: skip
    yield table(title, columns, rows)
    costs = found.cost_at(settings.budget_pct)
    cheapest = ((name, "none keeps within" if cost is None else f"{cost:.2f}") for name, cost in costs.items())
    yield table(f"cheapest at ≤ {settings.budget_pct:g} % violated", ("policy", "#× oracle"), cheapest)
    if len(found.sizes) > 1:
        sizes = (
            (s.size, f"{s.events_per_s:,.0f}", f"{s.violation_pct:.2f}", f"{s.instance_hours:,.0f}", f"{s.cost:,.2f}")
            for s in sorted(found.sizes, key=lambda size: size.cost)
        )
        yield table("with instances of", ("size", "#events/s", "#violated %", "#instance-hours", "#cost"), sizes)
    if found.forecast is not None:
        yield _forecast_line(found)
    yield from (f"note: {note}" for note in found.notes)


def _forecast_line(found: Simulation) -> str:
    figures = found.forecast
    assert figures is not None
    shown = {"MASE": figures.mase, "seasonal naive's": figures.mase_seasonal_naive, "WQL": figures.wql}
    said = [f"{name} {value:.3f}" for name, value in shown.items() if value is not None]
    if figures.coverage_95 is not None:
        said.append(f"95 % bound held {figures.coverage_95:.1%} of the minutes")
    if figures.cpu_s_per_tick is not None:
        said.append(f"{figures.cpu_s_per_tick * 1000:.1f} ms CPU per forecast")
    return f"forecast: {figures.model}; {'; '.join(said)}"


def _triggers(file: Path | None) -> tuple[Trigger, ...]:
    if file is None:
        return ()
    from fedbus.options import load_triggers

    return load_triggers(file)
