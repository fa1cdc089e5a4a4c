"""``fedbus topic``: policies of topics."""

from __future__ import annotations

import click

from fedbus.cli.control_api import ControlApi, as_json_option, print_json
from fedbus.cli.tables import show, table
from fedbus.cli.target import Target
from fedbus.quantity import format_duration


@click.group()
def topic() -> None:
    """Topics and their policies."""


@topic.command("list")
@as_json_option
@click.pass_obj
def list_topics(target: Target, *, as_json: bool) -> None:
    """List the topic policies by filter; topics that no filter takes have the defaults."""
    topics = ControlApi(target).items("topics")
    if as_json:
        print_json(topics)
        return
    rows = ((t["topic"], t["retention_ms"] and format_duration(t["retention_ms"]), t["schema_subject"]) for t in topics)
    show(table("", ("filter", "#retention", "schema subject"), rows))
    if not topics:
        click.echo("no policies: topics are created by their first event, with the defaults")
