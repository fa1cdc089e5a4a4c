"""``fedbus trigger``: external events known ahead, for which capacity is there in time."""

from __future__ import annotations

import click

from fedbus.cli.control_api import ControlApi, as_json_option, print_json, report_spread, segment
from fedbus.cli.parameters import Moment
from fedbus.cli.tables import rate, show, table
from fedbus.cli.target import Target


@click.group()
def trigger() -> None:
    """Announced events: a campaign, a scheduled task."""


@trigger.command("list")
@as_json_option
@click.pass_obj
def list_triggers(target: Target, *, as_json: bool) -> None:
    """List what is announced."""
    triggers = ControlApi(target).items("triggers")
    if as_json:
        print_json(triggers)
        return
    rows = (
        (t["id"], t["starts"], t["ends"], f"× {t['effect']:g}", rate(t["extra_eps"]), t["region"] or "all", t["note"])
        for t in triggers
    )
    show(table("", ("name", "starts", "ends", "#factor", "#extra/s", "region", "note"), rows))


@trigger.command("add")
@click.argument("name")
@click.option("--start", required=True, type=Moment(), help="When the load begins: 2026-11-27T08:00:00Z.")
@click.option("--end", required=True, type=Moment(), help="When it is over.")
@click.option("--factor", type=click.FloatRange(0, 1000, min_open=True), help="The usual load times this …")
@click.option("--extra", type=click.FloatRange(0), help="… plus so many events/s.")
@click.option("--region", help="Where it is felt; none: everywhere.")
@click.option("--note", default="", help="What people call it.")
@click.pass_obj
def add_trigger(
    target: Target, /, name: str, start: str, end: str, factor: float | None, extra: float | None, **felt: str | None
) -> None:
    """Announce NAME (again under the same name: change it)."""
    if factor is None and extra is None:
        raise click.UsageError("give its effect: --factor 3, --extra 500, or both")
    body = {"starts": start, "ends": end, "effect": factor or 1.0, "extra_eps": extra or 0.0, **felt}
    spread = ControlApi(target).call("PUT", f"/v1/triggers/{segment(name)}", body)
    report_spread(spread, f"{name}: announced")


@trigger.command("remove")
@click.argument("name")
@click.pass_obj
def remove_trigger(target: Target, name: str) -> None:
    """Take the announcement NAME back."""
    report_spread(ControlApi(target).call("DELETE", f"/v1/triggers/{segment(name)}"), f"{name}: taken back")
