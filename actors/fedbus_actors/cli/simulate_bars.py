"""``make sim``: the bars of prediction on every series of a directory, each met, or missed with the reason."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from fedbus.cli.control_api import as_json_option, print_json
from fedbus.cli.tables import show, table
from fedbus.errors import ConfigurationError, FedbusError
from fedbus_actors.cli.simulate import one_thread, read_series, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedbus.control.simulation.bars import Bar

DELAYS_MIN = (2, 5, 10)
_FIRST_LINE = "ds,y"
_SHOWN = {True: Text("met", "green"), False: Text("missed", "red"), None: Text("unknown", "yellow")}


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--delay", "delays_min", multiple=True, type=click.IntRange(0, 240), default=DELAYS_MIN, show_default=True
)
@click.option("--only", multiple=True, help="Series whose name contains this; repeatable.")
@as_json_option
def simulate_bars(directory: Path, delays_min: tuple[int, ...], only: tuple[str, ...], *, as_json: bool) -> None:
    """Simulate every series (*.csv with the columns ds,y) in DIRECTORY and hold it against the bars.

    Exit status 0, met or not: a bar missed is a result; 2 if there is nothing to simulate.
    """
    one_thread()
    from fedbus.control.simulation import bars as held

    found: list[held.Bar] = []
    files = _series(directory, only)
    for delay_min in delays_min:
        simulations = []
        for file in files:
            try:
                simulation = run(file, read_series(file), delay_min=delay_min)
            except ConfigurationError as error:
                click.echo(f"left out: {error.detail}", err=True)
                continue
            mine = held.bars(simulation)
            simulations.append(simulation)
            found += mine
            if not as_json:
                _print(f"{file.stem}, {delay_min} min delay", mine)
        if simulations:
            overall = held.half_way(simulations)
            found.append(overall)
            if not as_json:
                _print(f"all series, {delay_min} min delay", [overall])
    if as_json:
        print_json(found)
        return
    met, missed = (sum(each.met is verdict for each in found) for verdict in (True, False))
    click.echo(f"{met} bars met, {missed} missed, {len(found) - met - missed} unknown")


def _print(title: str, bars: Sequence[Bar]) -> None:
    rows = ((b.name, b.value, b.bar, _SHOWN[b.met], b.why) for b in bars)
    show(table(title, ("what", "measured", "bar", "", "why"), rows))


def _series(directory: Path, only: tuple[str, ...]) -> list[Path]:
    """The CSV files that are load series; other CSV files may lie beside them."""
    if not directory.is_dir():
        raise click.UsageError(
            f"{directory}/ is no directory: no load series come with the project. Put CSV files with the columns ds,y"
            " (time in UTC, events per interval) into a directory, and say: make sim TRACES=that/directory"
        )
    files = [each for each in sorted(directory.glob("*.csv")) if not only or any(part in each.stem for part in only)]
    series = [each for each in files if _is_series(each)]
    if not series:
        raise click.UsageError(f"{directory}: no CSV file with the columns {_FIRST_LINE} in it")
    return series


def _is_series(file: Path) -> bool:
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        return lines.readline().replace(" ", "").strip() == _FIRST_LINE


if __name__ == "__main__":
    try:
        simulate_bars(prog_name="make sim TRACES=")
    except FedbusError as error:
        click.echo(f"Error: {error.detail}", err=True)
        sys.exit(1)
