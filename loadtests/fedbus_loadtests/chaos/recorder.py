"""The recorder: writes one process's history while it happens.

An entry is in the kernel before :meth:`Recorder.write` returns, so that a process that is killed leaves everything it
had begun. (Not on disk: it is processes that die here, not the machine.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fedbus.clock import Clock, SystemClock
from fedbus_loadtests.chaos.entry import Entry, Kind, encode


class Recorder:
    """Appends to ``path`` as ``process``."""

    def __init__(self, path: Path, process: str, clock: Clock | None = None) -> None:
        self.process = process
        self._clock = clock or SystemClock()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, kind: Kind, operation: str, **fields: Any) -> Entry:
        """Record this now; ``fields`` are those of :class:`Entry`."""
        entry = Entry(
            time_ns=self._clock.monotonic_ns(), process=self.process, kind=kind, operation=operation, **fields
        )
        os.write(self._fd, encode(entry))
        return entry

    def close(self) -> None:
        """No more comes."""
        os.close(self._fd)
