"""Reads off the broker's thread: carries out the core's reads one after the other and answers them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from fedbus.broker.copy_effects import CopyFailed, RawRecords, ReadRaw, ReadState, Scrubbed, StateRead
from fedbus.broker.effects import Read, Records, Survey, Surveyed
from fedbus.errors import FedbusError, NotFoundError
from fedbus.limits import Limits
from fedbus.storage.ledger_info import damaged, info
from fedbus.storage.ledger_reads import LedgerReads
from fedbus.storage.work_queue import WorkQueue
from fedbus.threads import spawn

Wanted = Read | ReadRaw | ReadState | Survey
Answer = Records | RawRecords | StateRead | Surveyed | Scrubbed | CopyFailed


class Reader:
    """Reads ledgers of ``files``; ``on_result`` is called in the reading thread and must not block.

    At most ``limits.reads_waiting`` reads wait: the core asks for no more, and should it, ``submit`` waits. A ledger
    that is not here or cannot be opened is answered with no records and ``next_offset`` where it was. Damage that
    nobody knew of is reported (``Scrubbed``) behind the answer to the read that met it.
    """

    def __init__(self, files: LedgerReads, on_result: Callable[[Answer], None], *, limits: Limits) -> None:
        self._files = files
        self._on_result = on_result
        self._waiting: WorkQueue[Wanted] = WorkQueue(limits.reads_waiting)
        self._thread = spawn("ledger-reader", self._run)

    def submit(self, read: Wanted) -> None:
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
                answer = self._answer(read)
                if answer is not None:
                    self._on_result(answer)
                self._report_damage()

    def _answer(self, read: Wanted) -> Answer | None:
        match read:
            case Read(token, ledger, offset, max_bytes):
                try:
                    return Records(token, *self._files.read(ledger, offset, max_bytes))
                except FedbusError:
                    return Records(token, [], offset)
            case ReadRaw(token, ledger, number, max_bytes):
                try:
                    return RawRecords(token, *self._files.read_raw(ledger, number, max_bytes))
                except FedbusError:
                    return RawRecords(token, [], number)
            case ReadState(ledgers):
                return self._state(ledgers)
            case Survey(ledger):
                with suppress(NotFoundError):
                    found = info(self._files.get(ledger), closed=True)
                    return Surveyed(ledger, found.newest_ms, found.topics, found.size_bytes)
        return None

    def _state(self, ledgers: list[str]) -> StateRead | CopyFailed:
        """Without its state a ledger cannot be served: what cannot be read is no empty state."""
        try:
            ends = {ledger: self._files.get(ledger).end.offset for ledger in ledgers}
            harmed: set[str] = set()
            state = list(self._files.fold(ledgers, harmed))
            for ledger in harmed:
                self._files.read_through(ledger)
            return StateRead(ends, state, damaged=bool(harmed))
        except FedbusError as error:
            return CopyFailed(ledgers[-1], error.detail)

    def _report_damage(self) -> None:
        while self._files.reader.new_damage:
            ledger = self._files.reader.new_damage.pop()
            with suppress(NotFoundError):
                self._on_result(Scrubbed(ledger, damaged(self._files.get(ledger))))
