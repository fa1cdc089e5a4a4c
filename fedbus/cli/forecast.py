"""``fedbus forecast``: what a region's load was, what it is expected to be, and what that rests on."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from fedbus.cli.control_api import ControlApi, as_json_option, print_json
from fedbus.cli.tables import clock, rate, show, sparkline, table
from fedbus.cli.target import Target
from fedbus.errors import EnvironmentUnusableError

ROWS = 12
BARS_WIDE = 60


@click.command()
@click.argument("region")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Also draw it (needs matplotlib).")
@as_json_option
@click.pass_obj
def forecast(target: Target, region: str, plot: Path | None, *, as_json: bool) -> None:
    """Show the load history and the forecast of REGION, the chosen model and how it did in its backtest."""
    items = ControlApi(target).items("forecasts", region=region)
    found = items[0]
    if plot is not None:
        _draw(found, plot)
    if as_json:
        print_json(found)
        return
    show(*_text(found))
    if plot is not None:
        click.echo(f"drawn: {plot}")


def _text(found: dict[str, Any]) -> list[Any]:
    history, band = found["history"], found["forecast"]
    past, means = [point[1] for point in history], [each[1] for each in band]
    highest = max([*past, *(each[3] for each in band)], default=0.0)
    parts: list[Any] = [Text(f"{found['region']} at {found['as_of']}", style="bold")]
    if history:
        line = sparkline(past, BARS_WIDE, highest)
        parts.append(f"history   {line} since {history[0][0]}, up to {rate(max(past))}/s, now {rate(past[-1])}/s")
    if band:
        line = sparkline(means, BARS_WIDE, highest)
        parts.append(f"forecast  {line} until {band[-1][0]}, up to {rate(max(means))}/s")
    mase = "" if found["mase"] is None else f", MASE {found['mase']:.2f} (below 1 beats naive)"
    parts.append(f"basis     {found['basis']}")
    if found["model"]:
        parts.append(f"model     {found['model']}{mase}, made at {found['made_at']}")
    if found["scores"]:
        scores = sorted(found["scores"].items(), key=lambda item: item[1])
        parts.append(table("backtest", ("model", "#MASE"), ((name, f"{score:.3f}") for name, score in scores)))
    if band:
        step = max(1, -(-len(band) // ROWS))
        quantile = f"#q{found['quantile']:g}"
        rows = ((clock(time), rate(mean), rate(low), rate(high)) for time, mean, low, high in band[::step])
        parts.append(table("events/s expected", ("time (UTC)", "#mean", "#lower", quantile), rows))
    return parts


def _draw(found: dict[str, Any], file: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EnvironmentUnusableError("--plot needs matplotlib: pip install matplotlib, or leave --plot out") from None
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.add_subplot()
    if found["history"]:
        axes.plot(_times(found["history"]), [eps for _, eps in found["history"]], label="load")
    if found["forecast"]:
        times = _times(found["forecast"])
        _, means, lower, upper = zip(*found["forecast"], strict=True)
        axes.plot(times, means, label=f"forecast ({found['model']})")
        axes.fill_between(times, lower, upper, alpha=0.25, label=f"up to quantile {found['quantile']:g}")
    if found["capacity"]:
        steps = [eps for _, eps in found["capacity"]]
        axes.step(_times(found["capacity"]), steps, where="post", label="capacity", linestyle="--")
    axes.set_title(f"{found['region']}: events/s")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    figure.autofmt_xdate()
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise EnvironmentUnusableError(f"{file}: cannot be drawn: {error}") from None


def _times(points: list[list[Any]]) -> Any:
    """As matplotlib takes them, though its types do not say so."""
    return [datetime.fromisoformat(point[0]) for point in points]
