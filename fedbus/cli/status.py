"""``fedbus status``: the federation at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fedbus.cli.control_api import ControlApi, as_json_option, print_json
from fedbus.cli.region import behind, milliseconds, state_of
from fedbus.cli.routing import routing_tables
from fedbus.cli.tables import clock, rate, show, state, table
from fedbus.cli.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

RESOURCES = ("regions", "instances", "ledgers", "forecasts", "directives", "subscriptions", "routing")
DIRECTIVES_SHOWN = 8
LEDGERS_SHOWN = 12
EVERY_S = 2.0

Pages = dict[str, dict[str, Any]]


@click.command()
@as_json_option
@click.option(
    "--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C (with --json: a line each time)."
)
@click.pass_obj
def status(target: Target, *, as_json: bool, watch: bool) -> None:
    """Show regions, instances, load against forecast, ledgers, groups, and the last directives with their reasons.

    Of routing: what the gateway expects of each instance, and why its last events went where they went.

    With --json: regions, instances, ledgers, forecasts, directives, subscriptions and routing as GET /v1/… answers
    them.
    """
    api = ControlApi(target)
    if watch:
        _watch(api, as_json=as_json)
    elif as_json:
        print_json(_read(api))
    else:
        show(*_tables(_read(api)))


def _read(api: ControlApi) -> Pages:
    return {resource: api.page(resource) for resource in RESOURCES}


def _watch(api: ControlApi, *, as_json: bool) -> None:
    from threading import Event

    pause = Event()
    if as_json:
        while True:
            click.echo(msgspec.json.encode(_read(api)).decode())
            pause.wait(EVERY_S)
    with Live(Group(*_tables(_read(api))), console=Console(), auto_refresh=False, screen=False) as live:
        while True:
            pause.wait(EVERY_S)
            live.update(Group(*_tables(_read(api))), refresh=True)


def _tables(pages: Pages) -> Iterator[Any]:
    regions, instances = pages["regions"]["items"], pages["instances"]["items"]
    forecasts = {each["region"]: each for each in pages["forecasts"]["items"]}
    federation = next((each["federation"] for each in regions), "")
    serving = sum(each["instances"] for each in regions)
    stale = sorted({region for page in pages.values() for region in page["stale_regions"]})
    head = f"federation {federation}: {len(regions)} regions, {serving} instances take events"
    yield Text(f"{head}, {rate(sum(each['load_eps'] for each in regions))} events/s", style="bold")
    if stale:
        yield Text(f"stale, their manager does not answer: {', '.join(stale)}", style="yellow")
    shown = (
        "region",
        "state",
        "#ping ms",
        "#inst.",
        "#load/s",
        "#capacity/s",
        "#needed/s",
        "#forecast/s",
        "#published",
    )
    yield table("", shown, (_region(each, stale) for each in regions))
    columns = ("instance", "state", "size", "#load/capacity", "#ping ms", "#backlog", "#epoch", "#events", "note")
    yield table("", columns, map(_instance, instances))
    yield from routing_tables(pages["routing"]["items"])
    yield from _ledgers(pages["ledgers"]["items"])
    groups = pages["subscriptions"]["items"]
    if groups:
        yield table("", ("group", "home", "filters", "#members", "#backlog", "#in flight"), map(group_row, groups))
    newest = sorted(pages["directives"]["items"], key=lambda each: each["created"], reverse=True)[:DIRECTIVES_SHOWN]
    if newest:
        yield table("", ("ordered", "region", "directive", "state", "cause", "reason"), map(_directive, newest))
    for each in regions:
        yield _why(each, forecasts.get(each["region"]))


def _region(region: dict[str, Any], stale: list[str]) -> tuple[object, ...]:
    mark = Text(" stale", "yellow") if region["region"] in stale else ""
    return (
        Text.assemble(region["region"], mark), state_of(region), milliseconds(region["round_trip_ms"]),
        region["instances"],
        rate(region["load_eps"]), rate(region["capacity_eps"]), rate(region["required_eps"]),
        rate(region["forecast_eps"]), f"{region['published_total']:,}",
    )  # fmt: skip


def _instance(instance: dict[str, Any]) -> tuple[object, ...]:
    written, trip = instance["ledgers"].get(instance["ledger"]), instance["round_trip_ms"]
    return (
        instance["instance"], state(instance["state"]), instance["size"],
        f"{rate(instance['load_eps'])}/{rate(instance['capacity_eps'])}", None if trip is None else f"{trip:.1f}",
        instance["backlog_events"], instance["ledger"].rpartition("/")[2], None if written is None else f"{written:,}",
        instance["detail"],
    )  # fmt: skip


def _ledgers(ledgers: list[dict[str, Any]]) -> Iterator[Any]:
    """Ledgers: those with too few copies or in trouble first, then the ones being written, then the others."""
    if not ledgers:
        return
    ordered = sorted(
        ledgers, key=lambda each: (not each["under_replicated"], each["state"] == "CLOSED", each["ledger"])
    )
    columns = ("ledger", "state", "#copies", "#end", "dispatcher", "members", "note")
    yield table("", columns, map(_ledger, ordered[:LEDGERS_SHOWN]))
    if len(ordered) > LEDGERS_SHOWN:
        under = sum(each["under_replicated"] for each in ordered)
        yield Text(f"and {len(ordered) - LEDGERS_SHOWN} more ledgers; {under} of all have too few copies", style="dim")


def _ledger(ledger: dict[str, Any]) -> tuple[object, ...]:
    copies = f"{ledger['copies']}/{ledger['wanted_copies']}"
    end = None if ledger["end"] is None else f"{ledger['end']:,}"
    members = ", ".join(each.rpartition("/")[2] for each in ledger["members"])
    return (
        ledger["ledger"], state(ledger["state"].lower()), Text(copies, "red" if ledger["under_replicated"] else ""),
        end, ledger["dispatcher"].rpartition("/")[2], members,
        ledger["waiting"] or ("under-replicated" if ledger["under_replicated"] else ""),
    )  # fmt: skip


def _why(region: dict[str, Any], forecast: dict[str, Any] | None) -> Text:
    """What a region's capacity rests on, and what it pulls from others."""
    said = [region["explanation"]]
    if forecast is not None and forecast["model"]:
        mase = "" if forecast["mase"] is None else f", MASE {forecast['mase']:.2f}"
        said.append(f"forecast by {forecast['model']}{mase}")
    if region["links"]:
        said.append(f"links from {behind(region['links'])}")
    if region["recovery_point_ms"] is not None:
        said.append(f"recovery point {region['recovery_point_ms']} ms")
    if region["geo_waiting_events"]:
        waited = f"{region['geo_waiting_ms'] / 1000:.1f} s"
        said.append(f"{region['geo_waiting_events']} events wait for a second region, the oldest for {waited}")
    return Text.assemble((region["region"], "bold"), ": ", "; ".join(each for each in said if each))


def group_row(group: dict[str, Any]) -> tuple[object, ...]:
    """A durable group."""
    return (
        group["group"], group["region"], ", ".join(group["filters"]), group["members"], group["backlog_events"],
        group["in_flight_events"],
    )  # fmt: skip


def _directive(directive: dict[str, Any]) -> tuple[object, ...]:
    what = f"{directive['action']} {directive['instance'] or directive['size']}"
    outcome = f" → {directive['outcome']}" if directive["outcome"] else ""
    return (
        clock(directive["created"]), directive["region"], what, state(directive["state"]), directive["cause"],
        f"{directive['reason']}{outcome}",
    )  # fmt: skip
