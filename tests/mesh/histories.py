"""The histories of a trial while they are written: what was recorded so far, each line read once."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

from fedbus.clock import SystemClock
from fedbus_loadtests.chaos.entry import Entry, decode
from fedbus_loadtests.chaos.history import HISTORY


def now_ns() -> int:
    """The time of the histories."""
    return SystemClock().monotonic_ns()


class Histories:
    """All histories in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: list[Entry] = []
        self._read: dict[Path, int] = {}

    def entries(self) -> list[Entry]:
        """Everything recorded so far, by time; each line is read once."""
        for path in sorted(self._folder.glob(f"*{HISTORY}")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
            whole = data.rfind(b"\n") + 1
            self._read[path] = self._read.get(path, 0) + whole
            self._entries += map(decode, data[:whole].splitlines())
        self._entries.sort(key=attrgetter("time_ns"))
        return self._entries

    def succeeded(self, operation: str, **fields: Any) -> list[Entry]:
        """What was recorded so far of an operation that succeeded."""
        return [
            entry
            for entry in self.entries()
            if entry.operation == operation
            and entry.kind == "ok"
            and all(getattr(entry, name) == value for name, value in fields.items())
        ]

    def invoked(self) -> list[Entry]:
        """The publishes that were begun so far."""
        return [entry for entry in self.entries() if entry.operation == "publish" and entry.kind == "invoke"]
