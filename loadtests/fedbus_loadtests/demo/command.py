"""``fedbus demo``: the main job, end to end."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import psutil
from rich.console import Console

from fedbus.clock import NS_PER_S, SystemClock
from fedbus.control.trace import read_trace
from fedbus.errors import ConfigurationError, EnvironmentUnusableError
from fedbus_loadtests.demo.narration import narrator
from fedbus_loadtests.demo.scenario import Scenario, from_model, from_trace
from fedbus_loadtests.demo.stage import Stage

LEAST_SECONDS = 40.0


@click.command()
@click.option(
    "--trace", "trace", type=click.Path(path_type=Path), metavar="FILE.csv",
    help="Replay a load of your own (columns ds,y: time in UTC, events per interval) instead of the built-in model.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65_535), default=8000, show_default=True, help="The gateway's port.")
@click.option(
    "--instance-port", type=click.IntRange(1024, 65_000), default=24_000, show_default=True,
    help="First port of the bus instances; 150 from here on.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(LEAST_SECONDS, 600.0), default=75.0, show_default=True,
    help="Real seconds that the replay takes: the clock runs as fast as that needs.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Keep all data here (an empty directory)."
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Of the load model's noise and the events' mixture."
)
@click.option("--plain", is_flag=True, help="Lines instead of a live picture, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object on stdout; the story on stderr.")
def demo(
    trace: Path | None, port: int, instance_port: int, seconds: float, data: Path | None, seed: int, plain: bool,  # noqa: FBT001 - click
    as_json: bool,  # noqa: FBT001 - click
) -> None:  # fmt: skip
    """Three regions, a realistic load, a forecast, a failure on purpose; ends by itself.

    A fortnight of load history is written first; then a day's rise and fall is replayed on a fast clock. Exit status 1
    if an acknowledged event was lost, or if no forecast ordered instances in time, nothing failed over, or nothing
    scaled in.
    """
    before_s = (SystemClock().now_ns() / NS_PER_S) - psutil.Process().create_time()
    scenario = _scenario(trace, seed, seconds)
    console = Console(stderr=as_json)
    signal.signal(signal.SIGTERM, _interrupt)
    with _directory(data) as directory, narrator(console, plain=plain) as told:
        stage = Stage(
            scenario, told, directory, port=port, instance_port=instance_port, seed=seed, before_s=before_s
        )  # fmt: skip
        try:
            summary = stage.run()
        except EnvironmentUnusableError as error:
            if "port" in error.detail:
                error.add_note("For the demonstration: --port and --instance-port.")
            raise
    if as_json:
        sys.stdout.write(summary.as_json().decode() + "\n")
    else:
        console.print(summary.as_table())
    if summary.problems:
        raise click.exceptions.Exit(1)


def _scenario(trace: Path | None, seed: int, seconds: float) -> Scenario:
    if trace is None:
        return from_model(seed, seconds)
    try:
        with trace.open(encoding="utf-8", newline="") as lines:
            return from_trace(read_trace(lines), trace.name, seconds)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"{trace}: cannot be read ({why}); --trace takes a CSV file with columns ds,y"
        ) from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{trace}: {error.detail}") from None


@contextmanager
def _directory(data: Path | None) -> Iterator[Path]:
    if data is None:
        with tempfile.TemporaryDirectory(prefix="fedbus-demo-") as temporary:
            yield Path(temporary)
        return
    if data.is_dir() and any(data.iterdir()):
        raise ConfigurationError(f"{data}: is not empty, and the demonstration begins with a history of its own")
    data.mkdir(parents=True, exist_ok=True)
    yield data.absolute()


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM unwinds as Ctrl-C does, so that everything is taken down."""
    raise KeyboardInterrupt
