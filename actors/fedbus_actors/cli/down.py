"""``fedbus down``: stops the federation that runs on a data directory of this machine."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from threading import Event

import click
import psutil
from rich.console import Console

from fedbus.clock import SystemClock
from fedbus.errors import NotFoundError, UnavailableError
from fedbus_actors import run_directory
from fedbus_actors.cli.federation_file import federation_options, read_federation, region_option
from fedbus_actors.cli.holder import is_free, running_regions

POLL_S = 0.1


@click.command()
@click.argument("name", required=False)
@federation_options
@region_option("Stop the process that runs this region; may be repeated [default: all that run here].")
@click.option(
    "--patience", default=60, show_default=True, type=click.IntRange(min=1), help="Seconds to wait for its end."
)
def down(
    name: str | None, config: Path | None, data: Path | None, regions: tuple[str, ...], *, patience: int
) -> None:  # fmt: skip
    """Stop the federation NAME (without it: that of the federation file) here, and wait until nothing of it is left.

    Regions that were started together stop together.
    """
    options = read_federation(config, data)
    directory = options.data.root / (name or options.name)
    if not directory.is_dir():
        raise NotFoundError(f"no federation {directory.name} here{_known(options.data.root)}")
    if unknown := [region for region in regions if not (directory / region).is_dir()]:
        raise NotFoundError(f"no region {unknown[0]} of {directory.name} here")
    running = {
        region: process for region, process in running_regions(directory).items() if not regions or region in regions
    }
    what = ", ".join(regions) or directory.name
    if not running:
        swept = run_directory.sweep(run_directory.parent())
        click.echo(f"{what} does not run" + (f"; cleared away {len(swept)} killed run(s)" if swept else ""))
        return
    for process in set(running.values()):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    for region, process in running.items():
        with Console(stderr=True).status(f"stopping {region} (process {process.pid}) …"):
            if not _wait(process, directory / region, patience):
                raise UnavailableError(
                    f"{region} (process {process.pid}) still stops after {patience} s: wait, or end it with "
                    f"kill -9 {process.pid} and run `fedbus down` again, which clears away what is left"
                )
    run_directory.sweep(run_directory.parent())  # should one have been killed in the midst of its start
    click.echo(f"{what} is down")


def _known(root: Path) -> str:
    names = sorted({entry.parent.parent.name for entry in root.glob("*/*/lock")}) if root.is_dir() else []
    return f"; {root} has {', '.join(names)}" if names else f"; {root} has none"


def _wait(process: psutil.Process, directory: Path, patience_s: float) -> bool:
    """Whether the process ended and gave the lock back."""
    clock, pause = SystemClock(), Event()
    deadline_ns = clock.monotonic_ns() + int(patience_s * 1e9)
    while clock.monotonic_ns() < deadline_ns:
        if _has_ended(process) and is_free(directory):
            return True
        pause.wait(POLL_S)
    return False


def _has_ended(process: psutil.Process) -> bool:
    """Gone, or a zombie that its parent has not looked at."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
