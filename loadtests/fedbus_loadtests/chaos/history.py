"""Histories on disk: JSON lines, one file per process, merged by the machine's monotonic time."""

from __future__ import annotations

import gzip
import heapq
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path

import msgspec

from fedbus.errors import ConfigurationError
from fedbus_loadtests.chaos.entry import Entry, decode

HISTORY, PACKED = ".jsonl", ".jsonl.gz"


def read_history(path: Path) -> list[Entry]:
    """One process's entries in order.

    A last line without its end is what a killed process left; it says nothing. Any other line that cannot be read is
    no history: :class:`ConfigurationError`.
    """
    entries: list[Entry] = []
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            entries.append(decode(line))
        except msgspec.MsgspecError as error:
            raise ConfigurationError(f"{path}:{number} is no line of a history: {error}") from None
    return entries


def merge(histories: Iterable[list[Entry]]) -> Iterator[Entry]:
    """All entries by time. A process's own order stays: its clock does not go back."""
    return heapq.merge(*histories, key=attrgetter("time_ns"))


def read_histories(paths: Iterable[Path]) -> Iterator[Entry]:
    """The entries of these files by time; a directory stands for all histories in it."""
    found: list[Path] = []
    for path in paths:
        found += sorted([*path.glob(f"*{HISTORY}"), *path.glob(f"*{PACKED}")]) if path.is_dir() else [path]
    if not found:
        raise ConfigurationError("no history files: name *.jsonl files, or a directory that holds some")
    return merge(read_history(path) for path in found)
