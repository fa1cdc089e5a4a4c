"""``fedbus up``: starts a federation on this machine, serves until SIGINT or SIGTERM; ``--detach``: in the background.

Detached, it is the same program in a session of its own, with its output in ``up.log`` in the data directory; it
tells its parent through a pipe how far it is, so that the parent needs to watch neither files nor ports.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

import click
from rich.console import Console

from fedbus.errors import EnvironmentUnusableError
from fedbus.options import FederationOptions
from fedbus.storage.data_directory import DataDirectory
from fedbus_actors.cli.federation_file import federation_options, read_federation, region_option
from fedbus_actors.launch import chosen, launch
from fedbus_actors.region_keys import public_key

if TYPE_CHECKING:
    from fedbus_actors.federation import Federation

CTRL_C = 130
LOG_FILE = "up.log"
LINES_SHOWN = 20
READY = "ready"


@click.command()
@federation_options
@region_option("Start this region alone, with a gateway of its own; may be repeated [default: all not elsewhere].")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the gateway [default: 8000].")
@click.option(
    "--detach", is_flag=True, help="Return when it is ready; it runs on in the background until `fedbus down`."
)
@click.option("--tell", "tell_descriptor", type=int, hidden=True, help="Where a parent reads how far we are.")
def up(
    config: Path | None, data: Path | None, regions: tuple[str, ...], port: int | None, *, detach: bool,
    tell_descriptor: int | None,
) -> None:  # fmt: skip
    """Start the regions of a federation file, and serve until Ctrl-C or SIGTERM.

    Regions started together share a Ray cluster and a gateway; those started apart, here or elsewhere, have each their
    own, and reach one another by their `peering` addresses.

    The first Ctrl-C stops it in order, the second at once. FEDBUS_… variables override scalars of the file.
    """
    options = read_federation(config, data, port, regions)
    here = chosen(options, regions)
    if detach:
        _start_detached(options, here, _arguments(config, data, regions, port))
        click.echo(_addresses(options, here))
        return
    with _telling(tell_descriptor) as tell:
        raise click.exceptions.Exit(_serve(options, here, tell))


def _serve(options: FederationOptions, regions: Sequence[str], tell: Callable[[str], None]) -> int:
    """Run until a signal; the exit status."""
    console = Console(stderr=True)

    def progress(line: str) -> None:
        console.print(line, highlight=False)
        tell(line)

    stopping, signals = Event(), _Signals()
    federation: Federation | None = None
    signals.then(signals.unwind)
    try:
        progress(f"starting {options.name}: {', '.join(regions)}")
        with console.status("starting …"):
            federation = launch(options, regions, progress=progress)
            federation.start()
    except BaseException as error:
        if signals.received or isinstance(error, SystemExit):  # Ray's own handler exits, while Ray starts
            return signals.exit_status
        raise
    signals.then(lambda: _end_at_once(federation) if stopping.is_set() else stopping.set())
    if signals.received:  # and lost on its way through foreign code
        stopping.set()
    else:
        click.echo(_addresses(options, regions))
        sys.stdout.flush()
        tell(READY)
    while not stopping.wait(3600.0):
        pass
    console.print("stopping (Ctrl-C again: at once) …", highlight=False)
    federation.stop()
    console.print("stopped", highlight=False)
    return signals.exit_status


class _Signals:
    """SIGINT and SIGTERM, which first unwind a start that is under way, and later end the wait."""

    def __init__(self) -> None:
        self.received: list[int] = []

    def then(self, action: Callable[[], None]) -> None:
        """What to do from now on. Set explicitly: a shell's background jobs begin with SIGINT ignored."""

        def handle(number: int, _: FrameType | None) -> None:
            self.received.append(number)
            action()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handle)

    @staticmethod
    def unwind() -> None:
        """Leave from wherever it is, so that what was begun is taken down."""
        raise KeyboardInterrupt

    @property
    def exit_status(self) -> int:
        """0 for SIGTERM, 130 for Ctrl-C."""
        return CTRL_C if self.received[:1] == [signal.SIGINT] else 0


def _end_at_once(federation: Federation | None) -> NoReturn:
    if federation is not None:
        federation.abandon()
    os._exit(CTRL_C)


def _addresses(options: FederationOptions, regions: Sequence[str]) -> str:
    url = options.gateway_of(regions[0]).url
    fedbus = "fedbus" if url == "http://127.0.0.1:8000" else f"fedbus --url {url}"
    data = options.data.root / options.name
    apart = [name for name in regions if len(options.regions) > len(regions)]
    return "\n".join([
        f"gateway    {url}",
        f"dashboard  {url}/",
        f"data       {data}",
        *(f"key        {public_key(data / name)} of {name}, which the other regions have to know" for name in apart),
        "try        " + f"{fedbus} subscribe 'orders.>' --group billing",
        "           " + f"{fedbus} publish orders.created --data '{{\"id\": 1}}'",
        "           " + f"{fedbus} status",
    ])  # fmt: skip


# -- in the background -------------------------------------------------------------------------------------------------


def _arguments(config: Path | None, data: Path | None, regions: Sequence[str], port: int | None) -> list[str]:
    """What we were called with, wherever it is called from."""
    arguments = ["--config", str(config.absolute())] if config is not None else []
    arguments += ["--data", str(data.expanduser().absolute())] if data is not None else []
    for region in regions:
        arguments += ["--region", region]
    return arguments + (["--port", str(port)] if port is not None else [])


def _start_detached(options: FederationOptions, regions: Sequence[str], arguments: list[str]) -> None:
    """Start ourselves in the background and wait until it is ready; EnvironmentUnusableError has its last words."""
    directory = DataDirectory(options.data.root, options.name)
    for region in regions:  # refused here, it does not write into the log of the one that runs
        directory.region(region).lock().acquire().release()
    log = (directory.path if set(regions) == set(options.startable) else directory.region(regions[0]).path) / LOG_FILE
    read_end, write_end = os.pipe()
    command = [sys.executable, "-c", "from fedbus.cli.main import main; main()", "up", "--tell", str(write_end)]
    command += arguments
    console = Console(stderr=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            pass_fds=(write_end,),
        )  # fmt: skip
    os.close(write_end)
    try:
        with os.fdopen(read_end, encoding="utf-8") as told, console.status("starting …"):
            for line in map(str.rstrip, told):
                if line == READY:
                    console.print(f"runs in the background as process {process.pid}; its log is {log}", highlight=False)
                    return
                console.print(line, highlight=False)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    status = process.wait()
    last = log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
    shown = "\n".join(f"  {line}" for line in last)
    raise EnvironmentUnusableError(f"it did not start (exit status {status}); the end of {log} says:\n{shown}")


@contextlib.contextmanager
def _telling(descriptor: int | None) -> Iterator[Callable[[str], None]]:
    """What to call with each line for the parent; when this process ends, the parent's end closes."""
    if descriptor is None:
        yield lambda _line: None
        return
    os.set_inheritable(descriptor, False)  # else whatever Ray starts would keep it open
    pipe: TextIO | None = os.fdopen(descriptor, "w", encoding="utf-8")

    def tell(line: str) -> None:
        nonlocal pipe
        if pipe is None:
            return
        try:
            pipe.write(f"{line}\n")
            pipe.flush()
        except BrokenPipeError:
            pipe = None  # the parent went away
            return
        if line == READY:
            pipe.close()
            pipe = None

    try:
        yield tell
    finally:
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
