"""``fedbus region``: the regions of the federation, as the one that is asked sees them, and who belongs to it."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from fedbus.cli.control_api import ControlApi, as_json_option, print_json, segment, warn_of_stale
from fedbus.cli.tables import clock, rate, show, state, table
from fedbus.cli.target import Target
from fedbus.errors import NotFoundError


@click.group()
def region() -> None:
    """The regions of the federation: who is in touch with whom, who joins and who leaves."""


@region.command("list")
@as_json_option
@click.pass_obj
def list_regions(target: Target, *, as_json: bool) -> None:
    """List the regions with their state, round trip, load, and how far they are behind others."""
    page = ControlApi(target).page("regions")
    if as_json:
        print_json(page["items"])
        return
    columns = ("region", "state", "#round trip ms", "#load/s", "#capacity/s", "#recovery point ms", "gateway", "behind")
    show(table("", columns, map(_row, page["items"])))
    warn_of_stale(page["stale_regions"])


def _row(found: dict[str, Any]) -> tuple[object, ...]:
    return (
        found["region"], state_of(found), milliseconds(found["round_trip_ms"]), rate(found["load_eps"]),
        rate(found["capacity_eps"]), found["recovery_point_ms"], found["gateway"], behind(found["links"]),
    )  # fmt: skip


def state_of(found: dict[str, Any]) -> Text:
    """A region's state; of a lost one since when."""
    since = f" since {clock(found['lost_since'])}" if found.get("lost_since") else ""
    return Text.assemble(state(found["state"]), since)


def milliseconds(value: float | None) -> str | None:
    """With one digit, or nothing."""
    return None if value is None else f"{value:.1f}"


def behind(links: list[dict[str, Any]]) -> str:
    """From whom it pulls, and how far behind it is."""
    return ", ".join(f"{link['source']} {_lag(link)}" for link in links)


def _lag(link: dict[str, Any]) -> str:
    if link["state"] != "up":
        return str(link["state"])
    lag = "" if link["lag_ms"] is None else f"{link['lag_ms']} ms"
    events = f" ({link['behind_events']:,} events)" if link.get("behind_events") else ""
    return (lag + events) or "up"


@region.command("show")
@click.argument("name")
@as_json_option
@click.pass_obj
def show_region(target: Target, name: str, *, as_json: bool) -> None:
    """Show region NAME: what it pulls, whom it reaches, and by which key others know it."""
    found = _find(ControlApi(target), name)
    if as_json:
        print_json(found)
        return
    settings: list[tuple[str, object]] = [
        ("state", state_of(found)),
        ("provider, location", ", ".join(each for each in (found["provider"], found["location"]) if each)),
        ("gateway", found["gateway"]),
        ("peering", found["peering"]),
        ("public key", found["public_key"]),
        ("instances", found["instances"]),
        ("load/s of capacity/s", f"{rate(found['load_eps'])} of {rate(found['capacity_eps'])}"),
        ("recovery point, ms", found["recovery_point_ms"]),
        ("why", found["explanation"]),
    ]
    show(table(name, ("", ""), settings))
    if found["links"]:
        rows = (
            (each["source"], state(each["state"]), each["lag_ms"], each["behind_events"]) for each in found["links"]
        )
        show(table("pulls from", ("region", "state", "#lag ms", "#events behind"), rows))
    if found["peers"]:
        peers = ((each["region"], state(each["state"]), milliseconds(each["round_trip_ms"])) for each in found["peers"])
        show(table("reaches", ("region", "state", "#round trip ms"), peers))


@region.command("add")
@click.argument("name")
@click.option("--peering", required=True, metavar="tcp://HOST:PORT", help="Where its manager is reached.")
@click.option("--key", "public_key", required=True, help="Its public key: `fedbus region key`, asked there, prints it.")
@click.pass_obj
def add_region(target: Target, name: str, peering: str, public_key: str) -> None:
    """Let region NAME join, or give it another address or key: all regions hear of it from the one that is asked.

    It has to know one of them in turn: in its federation file, or by the same command asked there.
    """
    ControlApi(target).call("PUT", f"/v1/regions/{segment(name)}", {"peering": peering, "public_key": public_key})
    click.echo(f"{name}: known; `fedbus region list` shows when it answers")


@region.command("remove")
@click.argument("name")
@click.pass_obj
def remove_region(target: Target, name: str) -> None:
    """Let region NAME leave the federation: no other speaks to it any more. What it stored stays with it."""
    ControlApi(target).call("DELETE", f"/v1/regions/{segment(name)}")
    click.echo(f"{name}: left; `fedbus region add` lets it in again")


@region.command("key")
@click.argument("name", required=False)
@click.pass_obj
def key(target: Target, name: str | None) -> None:
    """Print the public key of region NAME; without a name that of the region which is asked."""
    regions = ControlApi(target).items("regions")
    found = _named(regions, name) if name is not None else regions[0]
    if not found["public_key"]:
        raise NotFoundError(f"the key of region {found['region']} is not known here: ask its own gateway with --url")
    click.echo(found["public_key"])


def _find(api: ControlApi, name: str) -> dict[str, Any]:
    return _named(api.items("regions"), name)


def _named(regions: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for each in regions:
        if each["region"] == name:
            return each
    raise NotFoundError(f"no region {name}; there are {', '.join(each['region'] for each in regions)}")
