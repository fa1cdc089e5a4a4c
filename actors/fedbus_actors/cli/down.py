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
from fedbus_actors.cli.federation_file import federation_options, read_federation
from fedbus_actors.cli.holder import is_free, running_process

POLL_S = 0.1


@click.command()
@click.argument("name", required=False)
@federation_options
@click.option(
    "--patience", default=60, show_default=True, type=click.IntRange(min=1), help="Seconds to wait for its end."
)
def down(name: str | None, config: Path | None, data: Path | None, *, patience: int) -> None:
    """Stop the federation NAME (without it: that of the federation file), and wait until nothing of it is left."""
    options = read_federation(config, data)
    directory = options.data.root / (name or options.name)
    if not directory.is_dir():
        raise NotFoundError(f"no federation {directory.name} here{_known(options.data.root)}")
    process = running_process(directory)
    if process is None:
        swept = run_directory.sweep(run_directory.parent())
        click.echo(f"{directory.name} does not run" + (f"; cleared away {len(swept)} killed run(s)" if swept else ""))
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
    with Console(stderr=True).status(f"stopping {directory.name} (process {process.pid}) …"):
        if not _wait(process, directory, patience):
            raise UnavailableError(
                f"{directory.name} (process {process.pid}) still stops after {patience} s: wait, or end it with "
                f"kill -9 {process.pid} and run `fedbus down` again, which clears away what is left"
            )
    run_directory.sweep(run_directory.parent())  # should it have been killed in the midst of its start
    click.echo(f"{directory.name} is down")


def _known(root: Path) -> str:
    names = sorted(entry.parent.name for entry in root.glob("*/lock")) if root.is_dir() else []
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
