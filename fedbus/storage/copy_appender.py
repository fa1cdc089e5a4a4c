"""Appending to a copy: which run takes which records, and runs that meet become one.

Records come in order from whoever sends them: the ledger's writer at the copy's end, and what this instance fetches
from other holders from the beginning on. Used by the committer's thread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedbus.broker.record import Record
from fedbus.errors import StorageError
from fedbus.storage.held_ledger import HeldLedger
from fedbus.storage.ledger_run import LedgerRun
from fedbus.storage.segment_index import Mark


class Portion:
    """Records of one turn that go to one run; none of them if all are here already, or the run is refusing."""

    __slots__ = ("next_number", "records", "run")

    def __init__(self, run: LedgerRun) -> None:
        self.run = run
        self.records: list[Record] = []
        self.next_number = run.next.number

    def add(self, record: Record) -> None:
        """Take the record if it is the next one; what is here already need not be written again."""
        if record.number == self.next_number:
            self.records.append(record)
            self.next_number += 1


class CopyAppender:
    """Appends to ``held``."""

    def __init__(self, held: HeldLedger) -> None:
        self._held = held
        self._refused: set[LedgerRun] = set()  # what comes for them is refused until it begins where they end

    def portions(self, records: Sequence[Record]) -> list[Portion]:
        """Which run takes which records: what begins where none ends begins a run of its own."""
        found: dict[LedgerRun, Portion] = {}
        for record in records:
            run = self._run_for(record.number, found)
            if run is None:
                self._discard_empty(found)
                run = self._held.add_run(Mark(record.first_offset, record.number, 0))
            portion = found.get(run)
            if portion is None:
                portion = found[run] = Portion(run)
            portion.add(record)
        return list(found.values())

    def _run_for(self, number: int, found: dict[LedgerRun, Portion]) -> LedgerRun | None:
        """The run in which it is, at whose end it belongs, or which refused what comes before it."""
        for run in reversed(self._held.runs):
            if run.start.number <= number:
                portion = found.get(run)
                end = run.next.number if portion is None else portion.next_number
                return run if number <= end or run in self._refused else None
        return None

    def _discard_empty(self, used: Collection[LedgerRun]) -> None:
        """Give up runs that were begun, refused by the disk, and are not wanted any more."""
        for run in self._held.runs:
            if not run.segments and run not in used:
                run.discard()
                self._refused.discard(run)
                self._remove(run)

    def _remove(self, run: LedgerRun) -> None:
        self._held.runs = tuple(other for other in self._held.runs if other is not run)

    def append(self, portion: Portion) -> None:
        """Write a portion behind its run. Raises as :meth:`LedgerRun.append`.

        A run that the disk refused goes on refusing until something comes that begins at its end: what was on its way
        behind the refused records must not begin a run of its own.
        """
        run = portion.run
        if run in self._refused and not portion.records:
            raise StorageError(f"ledger {run.ledger} goes on at record {run.next.number}, where the disk refused it")
        self._refused.discard(run)
        try:
            if portion.records:
                run.append_rolling(portion.records, self._held.disk.roll_from_bytes)
        except StorageError:
            self._refused.add(run)
            raise

    def sync(self, run: LedgerRun) -> int:
        """Make durable what was appended to the run; returns the number of its last durable record.

        Where it meets the next one, the two are one from then on. Raises :class:`OSError`, which is final.
        """
        run.sync()
        last = run.end.number - 1
        runs = self._held.runs
        following = runs[runs.index(run) + 1 :]
        if following and _meet(run, following[0]):
            run.close()
            with self._held.swapping:
                following[0].take_before(run)
                self._remove(run)
        return last

    def noted(self) -> None:
        """Another version of the record is on disk: what is refused now is another story."""
        self._refused.clear()


def _meet(run: LedgerRun, following: LedgerRun) -> bool:
    """Whether nothing is missing between them any more."""
    if run.end.number != following.start.number:
        return False
    assert run.end.offset == following.start.offset, (
        f"ledger {run.ledger}: the events before record {run.end.number} end at offset {run.end.offset}, "
        f"but those behind it begin at {following.start.offset}: these are not copies of one ledger"
    )
    return True
