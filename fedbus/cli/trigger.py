"""``fedbus trigger``: external events known ahead, for which capacity is there in time."""

from __future__ import annotations

from typing import Any

import click

from fedbus.cli.control_api import ControlApi, as_json_option, print_json, report_spread, segment
from fedbus.cli.parameters import Duration, Moment
from fedbus.cli.tables import show, table
from fedbus.cli.target import Target
from fedbus.quantity import format_duration


@click.group()
def trigger() -> None:
    """Announced events: a campaign, a scheduled task; and bursts that were found to recur."""


@trigger.command("list")
@as_json_option
@click.pass_obj
def list_triggers(target: Target, *, as_json: bool) -> None:
    """List what is announced, what was detected, and what is expected of each."""
    triggers = ControlApi(target).items("triggers")
    if as_json:
        print_json(triggers)
        return
    rows = (
        (
            each["id"] + (f" ({each['note']})" if each["note"] and not each["detected"] else ""),
            each["starts"] or "never",
            each["ends"] or "",
            _recurrence(each),
            each["region"] or "all",
            _expectation(each),
        )
        for each in triggers
    )
    show(table("", ("name", "starts", "ends", "recurs", "region", "expected"), rows))


@trigger.command("add")
@click.argument("name")
@click.option("--start", type=Moment(), help="When the load begins: 2026-11-27T08:00:00Z; with --cron: none before.")
@click.option("--end", type=Moment(), help="When it is over; with --cron: none begins from then on.")
@click.option("--cron", help="It recurs: minute hour day month weekday, such as '0 9 * * 1' (Mondays at 09:00).")
@click.option("--duration", "duration_ms", type=Duration(), help="How long each of these lasts: 30m.")
@click.option("--timezone", help="Of --cron: UTC (default), Europe/Berlin, …")
@click.option(
    "--factor", type=click.FloatRange(0, 1000, min_open=True), help="First guess: the usual load times this …"
)
@click.option(
    "--extra", type=click.FloatRange(0), help="… plus so many events/s; neither: the first occurrence teaches."
)
@click.option("--region", help="Where it is felt; none: everywhere.")
@click.option("--note", default="", help="What people call it.")
@click.pass_obj
def add_trigger(
    target: Target, /, name: str, factor: float | None, extra: float | None, **said: str | int | None
) -> None:
    """Announce NAME: --start and --end, or --cron and --duration.

    The effect is a first guess: what the earlier occurrences of NAME really brought is learned, also from the load
    history before it was announced. Under the same name again: change it, or announce its next time.
    """
    _check_when(said)
    names = {"start": "starts", "end": "ends"}
    given = {names.get(key, key): value for key, value in said.items() if value is not None}
    body = {"effect": factor or 1.0, "extra_eps": extra or 0.0, **given}
    spread = ControlApi(target).call("PUT", f"/v1/triggers/{segment(name)}", body)
    report_spread(spread, f"{name}: announced")


@trigger.command("remove")
@click.argument("name")
@click.pass_obj
def remove_trigger(target: Target, name: str) -> None:
    """Take the announcement NAME back."""
    report_spread(ControlApi(target).call("DELETE", f"/v1/triggers/{segment(name)}"), f"{name}: taken back")


def _check_when(said: dict[str, Any]) -> None:
    """Wrong usage unless it says when; what cron says is checked where it is understood."""
    given = {key for key, value in said.items() if value is not None}
    if "cron" not in given:
        if given & {"duration_ms", "timezone"}:
            raise click.UsageError("--duration and --timezone go with --cron; without it give --start and --end")
        if not given >= {"start", "end"}:
            raise click.UsageError("say when: --start and --end, or --cron '0 9 * * 1' and --duration 30m")
    elif "duration_ms" not in given:
        raise click.UsageError(f"--cron {said['cron']!r} says when it begins; give --duration, such as 30m, too")


def _recurrence(trigger: dict[str, Any]) -> str:
    if not trigger["cron"]:
        return f"{len(trigger['windows']) + 1} times" if trigger["windows"] else "once"
    zone = "" if trigger["timezone"] == "UTC" else f" {trigger['timezone']}"
    return f"{trigger['cron']}{zone}, {format_duration(trigger['duration_ms'])}"


def _expectation(trigger: dict[str, Any]) -> str:
    """What is expected, in each region's words where they differ."""
    said: dict[str, list[str]] = {}
    for each in trigger["learned"]:
        said.setdefault(each["explanation"], []).append(each["region"])
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{', '.join(regions)}: {words}" for words, regions in said.items())
