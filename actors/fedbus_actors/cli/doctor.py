"""``fedbus doctor``: looks at this machine the way a federation will use it, and says what to do about what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedbus.cli.control_api import as_json_option, print_json
from fedbus.cli.tables import show, table
from fedbus_actors.cli import machine_checks, network_checks, version_checks
from fedbus_actors.cli.federation_file import federation_options, read_federation
from fedbus_actors.cli.finding import Finding

if TYPE_CHECKING:
    from fedbus.cli.target import Target
    from fedbus.options import FederationOptions

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}

Check = Callable[["FederationOptions", str], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    version_checks.python,
    version_checks.ray,
    version_checks.extras,
    version_checks.haproxy,
    network_checks.ports,
    network_checks.clock_skew,
    network_checks.plaintext,
    network_checks.ray_authentication,
    machine_checks.data_directory,
    machine_checks.shared_memory,
    machine_checks.memory,
    machine_checks.open_files,
    machine_checks.leftovers,
)


@click.command()
@federation_options
@as_json_option
@click.pass_context
def doctor(ctx: click.Context, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Check versions, ports, disk, memory, clocks and leftovers for a federation on this machine.

    Exit status 1 if something would keep it from working.
    """
    target: Target = ctx.obj
    options = read_federation(config, data)
    findings = [finding for check in CHECKS for finding in check(options, target.url)]
    if as_json:
        print_json(findings)
    else:
        rows = ((each.text(COLOURS[each.verdict]), each.what, each.found, each.remedy) for each in findings)
        show(table("", ("", "what", "found", "what to do"), rows))
    if any(each.verdict == "fail" for each in findings):
        ctx.exit(1)
