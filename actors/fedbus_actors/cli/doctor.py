"""``fedbus doctor``: looks at this machine the way a federation will use it, and says what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedbus.cli.control_api import as_json_option, print_json
from fedbus.cli.tables import show, table
from fedbus_actors.cli import machine_checks, network_checks, version_checks
from fedbus_actors.cli.federation_file import federation_options, read_federation, region_option
from fedbus_actors.cli.finding import Finding
from fedbus_actors.launch import chosen

if TYPE_CHECKING:
    from fedbus.cli.target import Target
    from fedbus.options import FederationOptions

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@federation_options
@region_option("Look at what this region needs; may be repeated [default: all that `up` would start].")
@as_json_option
@click.pass_context
def doctor(
    ctx: click.Context, config: Path | None, data: Path | None, regions: tuple[str, ...], *, as_json: bool
) -> None:  # fmt: skip
    """Check versions, ports, disk, memory, clocks and leftovers for a federation on this machine.

    Exit status 1 if something would keep it from working.
    """
    target: Target = ctx.obj
    options = read_federation(config, data)
    findings = list(_findings(options, chosen(options, regions), target.url))
    if as_json:
        print_json(findings)
    else:
        rows = ((each.text(COLOURS[each.verdict]), each.what, each.found, each.remedy) for each in findings)
        show(table("", ("", "what", "found", "what to do"), rows))
    if any(each.verdict == "fail" for each in findings):
        ctx.exit(1)


def _findings(options: FederationOptions, regions: Sequence[str], url: str) -> Iterator[Finding]:
    yield from version_checks.python()
    yield from version_checks.ray()
    yield from version_checks.extras()
    yield from version_checks.haproxy()
    yield from network_checks.ports(options, regions)
    yield from network_checks.clock_skew(url)
    yield from network_checks.plaintext(options, regions)
    yield from network_checks.keys(options, regions)
    yield from network_checks.ray_authentication(options, regions)
    yield from machine_checks.data_directory(options)
    yield from machine_checks.shared_memory()
    yield from machine_checks.memory()
    yield from machine_checks.open_files()
    yield from machine_checks.leftovers()
