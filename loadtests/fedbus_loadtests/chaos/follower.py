"""The follower: reads the histories of a run while they are written, to know when everything has arrived."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fedbus_loadtests.chaos.checks.delivered import Delivered
from fedbus_loadtests.chaos.entry import decode
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.published import Published

NEVER_NS = 1 << 63


class Follower:
    """Reads every ``*.jsonl`` in ``folder`` from where it stopped."""

    def __init__(self, folder: Path, promise: Promise) -> None:
        self.acknowledged = 0
        self.subscribed: set[str] = set()
        self._folder = folder
        self._promise = promise
        self._read: dict[Path, int] = {}
        self._published = Published()
        self._delivered = Delivered(promise, self._published)

    def read(self) -> None:
        """Take in what was written meanwhile."""
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
            whole = data.rfind(b"\n") + 1
            self._read[path] = self._read.get(path, 0) + whole
            for line in data[:whole].splitlines():
                self._see(line)

    def _see(self, line: bytes) -> None:
        try:
            entry = decode(line)
        except msgspec.MsgspecError:
            return  # the verdict will say so
        self.acknowledged += entry.operation == "publish" and entry.kind == "ok"
        if entry.operation == "subscribe":
            self.subscribed.add(entry.subscription)
        self._published.see(entry)
        self._delivered.see(entry)

    def missing(self, before_ns: int = NEVER_NS) -> int:
        """How many deliveries are still due, of what was acknowledged by then."""
        self.read()
        due = sum(any(acked.time_ns <= before_ns for acked in event.acked) for event, _ in self._delivered.due())
        return due + sum(refused.time_ns <= before_ns for refused, _ in self._delivered.unsettled())
