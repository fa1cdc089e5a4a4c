"""``fedbus subscription``: durable groups."""

from __future__ import annotations

import click

from fedbus.cli.control_api import ControlApi, as_json_option, print_json
from fedbus.cli.status import group_row
from fedbus.cli.tables import show, table
from fedbus.cli.target import Target


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
    show(table("", ("group", "region", "filters", "#members", "#backlog", "#in flight"), map(group_row, groups)))
    if not groups:
        click.echo("no groups: fedbus subscribe FILTER --group NAME makes one")
