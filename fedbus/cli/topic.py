"""``fedbus topic``: topics, and the policies that hold for them."""

from __future__ import annotations

from typing import Any

import click

from fedbus.cli.control_api import ControlApi, as_json_option, print_json, report_spread, segment
from fedbus.cli.parameters import Duration, Filter, Size
from fedbus.cli.tables import show, table
from fedbus.cli.target import Target
from fedbus.quantity import format_duration, format_size

SETTINGS = (
    "retention_ms", "retention_bytes", "dedup_window_ms", "schema_subject", "validation", "forward", "regions",
    "durability",
)  # fmt: skip
CHOICES = ("validation", "forward", "durability")
NONE = "none"


@click.group()
def topic() -> None:
    """Topics and their policies: retention, dedup window, schema. The most specific filter's policy holds."""


@topic.command("list")
@click.option("--policies", "kind", flag_value="policies", help="Only policies, by filter.")
@click.option("--topics", "kind", flag_value="topics", help="Only topics that events came for.")
@as_json_option
@click.pass_obj
def list_topics(target: Target, kind: str | None, *, as_json: bool) -> None:
    """List the policies by filter, and the topics that events came for with what holds for them.

    Topics are those the instances know of: with events since they started, or in their closed ledgers.
    """
    topics = ControlApi(target).items("topics", kind=kind or "all", limit="10000")
    if as_json:
        print_json(topics)
        return
    columns = (
        "topic or filter", "policy of", "#retention", "#size", "#dedup window", "schema subject", "validation",
        "regions",
    )  # fmt: skip
    show(table("", columns, map(_row, topics)))
    if not topics:
        click.echo("no topics yet, and no policies: topics are created by their first event, with the defaults")


@topic.command("show")
@click.argument("topic", type=Filter())
@as_json_option
@click.pass_obj
def show_topic(target: Target, topic: str, *, as_json: bool) -> None:
    """Show what holds for TOPIC (or a filter), and which filter's policy it is."""
    found = ControlApi(target).call("GET", f"/v1/topics/{segment(topic)}")
    if as_json:
        print_json(found)
        return
    source = f"policy of {found['policy']}" if found["policy"] else "defaults: no policy's filter takes it"
    rows = (
        ("comes from", source),
        ("retention", format_duration(found["retention_ms"])),
        ("size", _size(found) or "no bound"),
        ("dedup window", _dedup(found) or "none: equal source and id are not looked at"),
        ("schema subject", found["schema_subject"] or f"{topic}-value"),
        ("validation", found["validation"]),
        ("forward", found["forward"]),
        ("regions", ", ".join(found["regions"])),
        ("durability", found["durability"]),
    )
    show(table(topic, ("setting", "value"), rows))


@topic.command("set")
@click.argument("filter", type=Filter())
@click.option("--retention", "retention_ms", type=Duration(), help="Keep events at least this long: 7d.")
@click.option(
    "--retention-bytes", type=Size(), metavar="SIZE|none",
    help="And no longer, once newer closed ledgers of a region with these topics add up to this: 10GiB.",
)  # fmt: skip
@click.option(
    "--dedup-window", "dedup_window_ms", type=Duration(none=NONE), metavar="DURATION|none",
    help="Store events with the same source and id once within this time: 10m.",
)  # fmt: skip
@click.option("--schema-subject", metavar="SUBJECT|none", help="Subject in the registry; none: the topic and -value.")
@click.option(
    "--validation", type=click.Choice(("registered", "schema", "none")),
    help="When data has to fit the schema: once one is registered, always, never.",
)  # fmt: skip
@click.option(
    "--forward", type=click.Choice(("interest", "all", "pinned")),
    help="To other regions where somebody wants them, to all, or stored in --regions alone.",
)  # fmt: skip
@click.option("--regions", metavar="REGION,…|none", help="The regions that --forward and --durability are about.")
@click.option(
    "--durability", type=click.Choice(("region", "federation")),
    help="Acknowledge when the region has an event, or only when one of --regions (none: any other) has it too.",
)  # fmt: skip
@click.pass_obj
def set_topic(target: Target, /, filter: str, **given: Any) -> None:
    """Set the policy for the topics that FILTER takes; what is not given stays as its policy has it, else default.

    It answers when every living bus instance has applied it.
    """
    api = ControlApi(target)
    path = f"/v1/topics/{segment(filter)}"
    present = api.call("GET", path)
    body = {name: present[name] for name in SETTINGS if present["policy"] == filter}
    given["regions"] = _regions(given["regions"])
    body |= {
        name: None if value == NONE and name not in CHOICES else value
        for name, value in given.items()
        if value is not None
    }
    report_spread(api.call("PUT", path, body), f"{filter}: policy set")


@topic.command("delete")
@click.argument("filter", type=Filter())
@click.pass_obj
def delete_topic(target: Target, filter: str) -> None:
    """Take the policy of FILTER back; events stay (one of the federation file returns when it starts again)."""
    report_spread(ControlApi(target).call("DELETE", f"/v1/topics/{segment(filter)}"), f"{filter}: no policy any more")


def _row(topic: dict[str, Any]) -> tuple[object, ...]:
    kept = topic["retention_ms"]
    return (
        topic["topic"], topic["policy"] or "(defaults)", kept and format_duration(kept), _size(topic), _dedup(topic),
        topic["schema_subject"], topic["validation"], _where(topic),
    )  # fmt: skip


def _regions(given: str | None) -> list[str] | None:
    if given is None:
        return None
    return [] if given == NONE else [name for name in (part.strip() for part in given.split(",")) if name]


def _where(topic: dict[str, Any]) -> str:
    """How a topic crosses regions, if not as by default."""
    parts = [topic["forward"]] if topic["forward"] != "interest" else []
    parts += ["synchronous"] if topic["durability"] == "federation" else []
    return " ".join([*parts, ", ".join(topic["regions"])]).strip()


def _size(topic: dict[str, Any]) -> str | None:
    return format_size(topic["retention_bytes"]) if topic["retention_bytes"] else None


def _dedup(topic: dict[str, Any]) -> str | None:
    return format_duration(topic["dedup_window_ms"]) if topic["dedup_window_ms"] else None
