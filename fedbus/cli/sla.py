"""``fedbus sla``: what is promised per topic filter."""

from __future__ import annotations

import click

from fedbus.cli.control_api import ControlApi, as_json_option, print_json, report_spread, segment
from fedbus.cli.parameters import Duration, Filter
from fedbus.cli.tables import show, table
from fedbus.cli.target import Target
from fedbus.quantity import format_duration


@click.group()
def sla() -> None:
    """Promises per topic filter: capacity is planned so that they hold."""


@sla.command("list")
@as_json_option
@click.pass_obj
def list_slas(target: Target, *, as_json: bool) -> None:
    """List the SLAs in force."""
    slas = ControlApi(target).items("slas")
    if as_json:
        print_json(slas)
        return
    rows = (
        (s["filter"], format_duration(s["max_latency_ms"]), f"{s['availability']:.4%}", s["quantile"]) for s in slas
    )
    show(table("", ("filter", "#latency", "#availability", "#forecast quantile"), rows))


@sla.command("set")
@click.argument("filter", type=Filter())
@click.option(
    "--latency", "latency_ms", type=Duration(), default="1s", show_default=True, help="Publishing to delivery."
)
@click.option(
    "--availability", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.999, show_default=True,
    help="Share of time in which it is kept.",
)  # fmt: skip
@click.pass_obj
def set_sla(target: Target, filter: str, latency_ms: int, availability: float) -> None:
    """Promise that events of topics matching FILTER arrive within --latency for --availability of the time."""
    body = {"max_latency_ms": latency_ms, "availability": availability}
    spread = ControlApi(target).call("PUT", f"/v1/slas/{segment(filter)}", body)
    report_spread(spread, f"{filter}: {format_duration(latency_ms)} for {availability:.4%} of the time,")


@sla.command("remove")
@click.argument("filter", type=Filter())
@click.pass_obj
def remove_sla(target: Target, filter: str) -> None:
    """Take the SLA of FILTER back (one of the federation file returns when the federation starts again)."""
    report_spread(ControlApi(target).call("DELETE", f"/v1/slas/{segment(filter)}"), f"{filter}: no SLA any more")
