"""``fedbus``: the command line. Finds commands, resolves which federation is meant, words errors as one line.

Commands are imported when they are run, so that ``fedbus --help`` is quick. Those that need a cluster live beside the
actors and are found by entry point (``fedbus.commands``). Exit status: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module, metadata
from typing import Any

import click

from fedbus.cli.target import Target
from fedbus.errors import FedbusError

CTRL_C = 130
ENTRY_POINTS = "fedbus.commands"

# name → (where, what it does); the contract's cluster commands are listed for their help line only
LIGHT = {
    "publish": ("fedbus.cli.publish:publish", "Publish an event, or a file of them."),
    "subscribe": ("fedbus.cli.subscribe:subscribe", "Receive events, live or as a member of a durable group."),
    "schema": ("fedbus.cli.schema:schema", "Register, list, show, check, configure and delete schemas."),
    "status": ("fedbus.cli.status:status", "Regions, instances, health, load, forecast, ledgers, links."),
    "region": ("fedbus.cli.region:region", "Regions: list, show, add, remove, and their public keys."),
    "forecast": ("fedbus.cli.forecast:forecast", "History, forecast, quantiles, chosen model and its backtest."),
    "topic": ("fedbus.cli.topic:topic", "Topics and their policies: retention, dedup window, schema."),
    "subscription": ("fedbus.cli.subscription:subscription", "Durable groups: list, show, create, seek, delete."),
    "sla": ("fedbus.cli.sla:sla", "List, set and remove SLAs."),
    "trigger": ("fedbus.cli.trigger:trigger", "Add, list and remove announced events."),
    "scale": ("fedbus.cli.instances:scale", "Override a region's number of instances for a while."),
    "drain": ("fedbus.cli.instances:drain", "Drain a bus instance for good."),
    "restart": ("fedbus.cli.instances:restart", "Restart a bus instance."),
}
CLUSTER = {
    "up": "Start the regions of a federation file.",
    "down": "Stop a federation.",
    "demo": "The main job, end to end.",
    "doctor": "Check ports, versions, Ray, clock skew, disk, keys.",
    "simulate": "What would this scaling policy have done to my load?",
    "launch": "One Ray cluster per region, linked into a federation.",
    "teardown": "Undo launch.",
    "bench": "Benchmarks, side by side with peers.",
}


class Commands(click.Group):
    """Commands by name, imported when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted({*LIGHT, *_plugged_in()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; a missing extra is wrong usage and says what to install."""
        if cmd_name in LIGHT:
            module, name = LIGHT[cmd_name][0].split(":")
            command: click.Command = getattr(import_module(module), name)
            return command
        entry = _plugged_in().get(cmd_name)
        if entry is None:
            return None
        try:
            loaded: click.Command = entry.load()
        except ImportError as error:
            if os.environ.get("FEDBUS_DEBUG"):
                raise
            raise click.UsageError(
                f"fedbus {cmd_name} needs the cluster extra: pip install 'fedbus[cluster]' ({error})"
            ) from None
        return loaded

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing what has a line here."""
        rows = []
        for name in self.list_commands(ctx):
            line = LIGHT[name][1] if name in LIGHT else CLUSTER.get(name)
            if line is None:
                command = self.get_command(ctx, name)
                line = command.get_short_help_str() if command is not None else ""
            rows.append((name, line))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors of ours are one line on stderr."""
        try:
            return super().invoke(ctx)
        except FedbusError as error:
            if os.environ.get("FEDBUS_DEBUG"):
                raise
            notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
            raise click.ClickException(f"{error.detail} [{error.code}]{notes}") from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
            raise click.exceptions.Exit(1) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(CTRL_C) from None


def _plugged_in() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group=ENTRY_POINTS)}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", "urls", multiple=True, help="A gateway (http://…) or bus instance (tcp://…); may be repeated.")
@click.option("--context", "context", help="A named federation of contexts.json.")
@click.version_option(package_name="fedbus", message="%(version)s")
@click.pass_context
def main(ctx: click.Context, urls: tuple[str, ...], context: str | None) -> None:
    """A federated event bus that scales before the load comes.

    Which federation is meant: --url, else --context, else FEDBUS_URL, else http://127.0.0.1:8000. FEDBUS_TOKEN holds
    credentials.
    """
    ctx.obj = Target.resolve(urls, context)
