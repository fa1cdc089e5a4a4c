"""Reads off the broker's thread: executes the core's ``Read`` effects one after the other and answers ``Records``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fedbus.broker.effects import Read, Records
from fedbus.errors import FedbusError
from fedbus.limits import Limits
from fedbus.storage.ledger_reader import EventsRead
from fedbus.storage.work_queue import WorkQueue
from fedbus.threads import spawn


class ReadsLedgers(Protocol):
    """Where ledgers are read; safe to call from this thread while others append."""

    def read(self, ledger: str, offset: int, max_bytes: int) -> EventsRead:
        """As :meth:`fedbus.storage.ledger_files.LedgerFiles.read`."""
        ...


class Reader:
    """Reads ledgers of ``files``; ``on_result`` is called in the reading thread and must not block.

    At most ``limits.reads_waiting`` reads wait: the core asks for no more, and should it, ``submit`` waits. A ledger
    that is not here or cannot be opened is answered with no records and ``next_offset`` where it was.
    """

    def __init__(self, files: ReadsLedgers, on_result: Callable[[Records], None], *, limits: Limits) -> None:
        self._files = files
        self._on_result = on_result
        self._waiting: WorkQueue[Read] = WorkQueue(limits.reads_waiting)
        self._thread = spawn("ledger-reader", self._run)

    def submit(self, read: Read) -> None:
        """Queue a read. Waits while too many are waiting; raises :class:`ClosedError` after closing."""
        self._waiting.put(read, 1)

    @property
    def depth(self) -> int:
        """Reads waiting."""
        return self._waiting.depth

    def close(self) -> None:
        """Finish the reads that are waiting, then end the thread. Returns when it has ended."""
        self._waiting.close()
        self._thread.join()

    def _run(self) -> None:
        while reads := self._waiting.take_all():
            for read in reads:
                self._on_result(self._read(read))

    def _read(self, read: Read) -> Records:
        try:
            records, next_offset, damaged = self._files.read(read.ledger, read.offset, read.max_bytes)
        except FedbusError:
            return Records(read.token, [], read.offset)
        return Records(read.token, records, next_offset, damaged)
