"""A progress bar on stderr, when that is a terminal."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader


@contextmanager
def publishing(file: BufferedReader) -> Iterator[Callable[[int, int], None]]:
    """Show how far a file is published; yields what to call with (bytes read, events acknowledged)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("publishing"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[events]:,} events durable"),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("publish", total=_size_bytes(file), events=0)
        yield lambda read_bytes, events: progress.update(task, completed=read_bytes, events=events)


def _size_bytes(file: BufferedReader) -> int | None:
    """Unknown for a pipe."""
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
