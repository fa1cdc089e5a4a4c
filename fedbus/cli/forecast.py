"""``fedbus forecast``: what a region's load was and is expected to be, what that rests on, what was decided and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from fedbus.cli.control_api import ControlApi, as_json_option, print_json
from fedbus.cli.forecast_plot import draw
from fedbus.cli.tables import clock, rate, show, sparkline, state, table
from fedbus.cli.target import Target

ROWS = 12
DECISIONS = 8
BARS_WIDE = 60


@click.command()
@click.argument("region")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Also draw it (needs matplotlib).")
@as_json_option
@click.pass_obj
def forecast(target: Target, region: str, plot: Path | None, *, as_json: bool) -> None:
    """Show load and forecast of REGION, the chosen model and its backtest, triggers, and what was decided and why."""
    items = ControlApi(target).items("forecasts", region=region)
    found = items[0]
    if plot is not None:
        draw(found, plot)
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
    if found["capacity"]:
        needed = "" if found["required_eps"] is None else f", {rate(found['required_eps'])}/s needed"
        parts.append(f"capacity  {rate(found['capacity'][-1][1])}/s in service{needed}")
    if found["why"]:
        parts.append(Text(f"why       {found['why']}"))
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
    return [*parts, *_triggers(found), *_decisions(found)]


def _triggers(found: dict[str, Any]) -> list[Any]:
    rows = [
        (t["title"] or t["trigger"], t["state"], clock(t["starts"]), clock(t["ends"]), rate(t["peak_eps"]), t["why"])
        for t in found["triggers"]
    ]
    columns = ("trigger", "state", "starts (UTC)", "ends", "#up to", "why")
    return [table("triggers under way and near", columns, rows)] if rows else []


def _decisions(found: dict[str, Any]) -> list[Any]:
    rows = [
        (clock(d["created"]), f"{d['action']} {d['instance'] or d['size']}", state(d["state"]), d["cause"], d["reason"])
        for d in found["decisions"][:DECISIONS]
    ]
    return [table("decisions, newest first", ("time (UTC)", "what", "state", "cause", "why"), rows)] if rows else []
