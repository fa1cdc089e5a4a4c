"""``fedbus subscription``: durable groups."""

from __future__ import annotations

from typing import Any

import click

from fedbus.cli.control_api import ControlApi, as_json_option, print_json, segment, wait_for
from fedbus.cli.parameters import Duration, Filter, StartText
from fedbus.cli.status import group_row
from fedbus.cli.tables import clock, show, table
from fedbus.cli.target import Target
from fedbus.quantity import format_duration

MOVE_PATIENCE_S = 20.0  # a busy instance confirms late
OPTIONS = (
    "ack_deadline_ms", "max_deliveries", "dead_letter_topic", "max_in_flight", "backoff_min_ms", "backoff_max_ms",
    "paused",
)  # fmt: skip

region_option = click.option("--region", help="The region to ask; needed where several have a group of that name.")


@click.group()
def subscription() -> None:
    """Durable groups of subscribers."""


@subscription.command("list")
@as_json_option
@click.pass_obj
def list_subscriptions(target: Target, *, as_json: bool) -> None:
    """List the groups with what they have not settled yet."""
    groups = ControlApi(target).items("subscriptions")
    if as_json:
        print_json(groups)
        return
    columns = ("group", "home", "filters", "#members", "#backlog", "#in flight", "#redelivered", "#dead", "#expired",
               "#unshared", "state")  # fmt: skip
    show(table("", columns, ((*group_row(group), *_troubles(group)) for group in groups)))
    if not groups:
        click.echo("no groups: fedbus subscribe FILTER --group NAME makes one")


def _troubles(group: dict[str, Any]) -> tuple[object, ...]:
    state = "paused" if group["paused"] else "nobody reads" if not group["members"] else "active"
    state = "in conflict" if group["conflict"] else "away" if group["region"] != group["preferred"] != "" else state
    unshared = [each["events"] for each in group["unshared"]]
    worst = None if None in unshared or not unshared else max(unshared)
    return group["redelivered_events"], group["dead_letter_events"], group["expired_events"], worst, state


@subscription.command("show")
@click.argument("group")
@region_option
@as_json_option
@click.pass_obj
def show_subscription(target: Target, group: str, region: str | None, *, as_json: bool) -> None:
    """Show GROUP: how it delivers, its members and backlog instance by instance, and what retention took from it."""
    found = ControlApi(target).call("GET", _path(group), query=_query(region))
    if as_json:
        print_json(found)
        return
    show(table(f"{found['group']} in {found['region']}", ("setting", "value"), _settings(found)))
    columns: tuple[str, ...] = ("instance", "#backlog", "#in flight", "#redelivered", "#dead", "members")
    show(table("", columns, map(_part, found["instances"])))
    if found["unshared"]:
        columns = ("standby", "#events it does not know", "#ms")
        show(table("settled and not shared yet", columns, map(_unshared, found["unshared"])))
    behind = [(part["instance"], each) for part in found["instances"] for each in part["ledgers"]]
    behind = [(name, each) for name, each in behind if each["end"] > each["position"] or each["in_flight_events"]]
    if behind:
        columns = ("instance", "ledger", "#position", "#end", "#behind", "#in flight")
        show(table("not settled yet", columns, (_progress(name, each) for name, each in behind)))
    if found["expired"]:
        show(table("lost to retention", ("time", "ledger", "#events, at most"), map(_expiry, found["expired"])))
    if found["history"]:
        show(table("", ("time", "what became of it"), map(_event, found["history"])))


def _settings(group: dict[str, Any]) -> list[tuple[str, object]]:
    end = group["max_deliveries"]
    return [
        ("filters", ", ".join(group["filters"])),
        *_home(group),
        (
            "started at",
            group["start"] + (f" (moved {group['generation'] - 1} times)" if group["generation"] > 1 else ""),
        ),
        ("paused", "yes: nothing is delivered" if group["paused"] else "no"),
        ("acknowledgement deadline", format_duration(group["ack_deadline_ms"])),
        ("deliveries", f"{end}, then to {group['dead_letter_topic']}" if end else "without end"),
        ("back-off", f"{format_duration(group['backoff_min_ms'])} to {format_duration(group['backoff_max_ms'])}"),
        ("in flight per member", group["max_in_flight"] or "as many as the limits allow"),
        ("members", group["members"]),
        ("backlog, at most", group["backlog_events"]),
        ("in flight", group["in_flight_events"]),
        ("lost to retention", group["expired_events"]),
    ]


def _home(group: dict[str, Any]) -> list[tuple[str, object]]:
    if group["scope"] == "region":
        return [("scope", f"{group['region']} alone")]
    since = f" since {group['home_since'][:10]} {clock(group['home_since'])}" if group["home_since"] else ""
    away = f", goes back to {group['preferred']}" if group["region"] != group["preferred"] != "" else ""
    return [
        ("home", f"{group['region']}{since} (term {group['term']}){away}"),
        ("standbys", ", ".join(group["standbys"]) or "none: nobody takes its place"),
        *([("conflict", group["conflict"])] if group["conflict"] else []),
    ]


def _unshared(unshared: dict[str, Any]) -> tuple[object, ...]:
    events = "does not follow" if unshared["events"] is None else unshared["events"]
    return unshared["region"], events, unshared["lag_ms"]


def _part(part: dict[str, Any]) -> tuple[object, ...]:
    return (
        part["instance"], part["backlog_events"], part["in_flight_events"], part["redelivered_events"],
        part["dead_letter_events"], ", ".join(part["members"]),
    )  # fmt: skip


def _progress(instance: str, ledger: dict[str, Any]) -> tuple[object, ...]:
    position, end = ledger["position"], ledger["end"]
    return instance, ledger["ledger"], position, end, end - position, ledger["in_flight_events"]


def _expiry(expiry: dict[str, Any]) -> tuple[object, ...]:
    return f"{expiry['time'][:10]} {clock(expiry['time'])}", expiry["ledger"], expiry["events"]


def _event(event: dict[str, Any]) -> tuple[object, ...]:
    return f"{event['time'][:10]} {clock(event['time'])}", event["message"]


@subscription.command("set")
@click.argument("group")
@click.option(
    "--filter", "filters", type=Filter(), multiple=True, help="What it takes; may be repeated. For a new group."
)
@click.option(
    "--from", "start", type=StartText(), metavar="earliest|latest|TIME|POSITION", help="Where a new group starts."
)
@click.option("--ack-deadline", "ack_deadline_ms", type=Duration(), help="Unsettled for so long: it comes again.")
@click.option("--max-deliveries", type=click.IntRange(min=0), help="Then to the dead-letter topic; 0: without end.")
@click.option("--dead-letter-topic", help="Default: _fedbus.dead_letters. and the group.")
@click.option("--max-in-flight", type=click.IntRange(min=0), help="Events a member may hold unsettled.")
@click.option("--backoff-min", "backoff_min_ms", type=Duration(), help="Wait before the second delivery …")
@click.option("--backoff-max", "backoff_max_ms", type=Duration(), help="… doubled with each, up to this.")
@click.option("--home", help="Region where a new group is at home; default: the one that is asked.")
@click.option(
    "--scope",
    type=click.Choice(["federation", "region"]),
    help="region: it is this region's own, not the federation's.",
)
@click.option("--pause/--resume", "paused", default=None, help="Deliver nothing; go on.")
@region_option
@click.pass_obj
def set_subscription(target: Target, /, group: str, region: str | None, **given: Any) -> None:
    """Make GROUP, or change how it delivers; what is not given stays as it is."""
    api = ControlApi(target)
    body: dict[str, Any] = {name: value for name, value in given.items() if name in OPTIONS and value is not None}
    if given["filters"]:
        body["filter"] = list(given["filters"])
    else:
        present = api.call("GET", _path(group), query=_query(region))
        body = {"filter": present["filters"]} | {name: present[name] for name in OPTIONS} | body
    body |= {name: given[name] for name in ("start", "home", "scope") if given[name] is not None}
    answer = api.call("PUT", _path(group), body, query=_query(region))
    click.echo(f"group {answer['group']} in {answer['region']}: recorded by every instance")


@subscription.command("seek")
@click.argument("group")
@click.argument("start", metavar="earliest|latest|TIME|POSITION", type=StartText())
@region_option
@click.pass_obj
def seek(target: Target, group: str, start: str, region: str | None) -> None:
    """Let GROUP go on at START: what it settled before counts no more; a position is included."""
    answer = ControlApi(target).call("POST", f"{_path(group)}/seek", {"start": start}, query=_query(region))
    click.echo(f"group {answer['group']} in {answer['region']}: goes on at {start}")


@subscription.command("move")
@click.argument("group")
@click.option("--to", "to", required=True, metavar="REGION", help="Its new home.")
@region_option
@click.pass_obj
def move(target: Target, group: str, to: str, region: str | None) -> None:
    """Let GROUP be at home in another region: its members go on there, where they were.

    What they hold at that moment is delivered again. If its home is lost, so is what that had not shared.
    """
    api, path = ControlApi(target), f"{_path(group)}/home"
    answer = wait_for(lambda: api.call("PUT", path, {"region": to}, query=_query(region)), MOVE_PATIENCE_S)
    click.echo(f"group {answer['group']} {answer['detail'] or f'is at home in {to}'}")


@subscription.command("delete")
@click.argument("group")
@region_option
@click.pass_obj
def delete_subscription(target: Target, group: str, region: str | None) -> None:
    """Delete GROUP with its position; its members are told."""
    answer = ControlApi(target).call("DELETE", _path(group), query=_query(region))
    click.echo(f"group {answer['group']} in {answer['region']}: deleted")


def _path(group: str) -> str:
    return f"/v1/subscriptions/{segment(group)}"


def _query(region: str | None) -> dict[str, str]:
    return {"region": region} if region is not None else {}
