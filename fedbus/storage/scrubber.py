"""The scrubber: reads sealed segments through at a low rate, repairs what is damaged, deletes what was dropped.

A thread of its own, so that none of it keeps a writer waiting. Every record is proven again in each pass; what cannot
be read is reported (``Scrubbed``), and the core sends sound records from another holder (``Repair``). A damaged segment
header says nothing that is not known elsewhere and is renewed at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from fedbus.broker.copy_effects import Repair, Scrubbed
from fedbus.errors import NotFoundError
from fedbus.limits import Limits
from fedbus.storage.durable import replace_file
from fedbus.storage.held_ledger import HeldLedger
from fedbus.storage.ledger_directory import delete
from fedbus.storage.ledger_info import damaged
from fedbus.storage.ledger_reads import LedgerReads
from fedbus.storage.repair import repair
from fedbus.storage.segment_index import Segment, index_path
from fedbus.storage.survey import inspect
from fedbus.storage.work_queue import WorkQueue
from fedbus.threads import spawn

log = logging.getLogger(__name__)


class Pass:
    """A job: read everything through now."""


class _Ended(Exception):  # noqa: N818 - no error: the scrubber is being closed
    """Stop where it is."""


class Scrubber:
    """Looks after the ledgers of ``files``; ``on_result`` is called in its thread and must not block.

    A pass begins when there has been nothing to do for ``limits.scrub_rest_ms``, or when :meth:`submit` is given one.
    """

    def __init__(self, files: LedgerReads, on_result: Callable[[Scrubbed], None], *, limits: Limits) -> None:
        self._files = files
        self._on_result = on_result
        self._limits = limits
        self._jobs: WorkQueue[Repair | Path | Pass] = WorkQueue(limits.repairs_waiting)
        self._thread = spawn("ledger-scrubber", self._run)

    def submit(self, job: Repair | Path | Pass) -> None:
        """Queue a repair, a directory to delete, or a pass. Waits while too much is waiting."""
        self._jobs.put(job, 1)

    def close(self) -> None:
        """Do what is waiting, but no pass, then end the thread. Returns when it has ended."""
        self._jobs.close()
        self._thread.join()

    def _run(self) -> None:
        rest_s = self._limits.scrub_rest_ms / 1000
        while True:
            jobs = self._jobs.take_all(rest_s)
            if not jobs and self._jobs.closed:
                return
            for job in sorted(jobs, key=_takes_long) or [Pass()]:
                try:
                    self._do(job)
                except _Ended:
                    pass
                except Exception:  # damage that cannot be repaired now is found again; nobody may be harmed by it
                    log.exception("%s has failed", type(job).__name__.lower())

    def _do(self, job: Repair | Path | Pass) -> None:
        match job:
            case Pass():
                for held in self._files.all():
                    self._scrub(held)
            case Repair(ledger, records):
                try:
                    held = self._files.get(ledger)
                except NotFoundError:
                    return  # dropped meanwhile
                repair(held, records)
                self._on_result(Scrubbed(ledger, damaged(held)))
            case _:
                delete(job)

    def _scrub(self, held: HeldLedger) -> None:
        for segment in held.sealed:
            try:
                self._inspect(held, segment)
            except OSError as error:
                if segment in held.sealed:  # else it was dropped or cut meanwhile
                    log.error("%s cannot be read: %s", segment.path, error)  # noqa: TRY400 - the disk says why
        if any(damage.start == 0 for segment in held.sealed for damage in segment.index.damage):
            repair(held, ())
        found = damaged(held)
        if found:
            log.error("ledger %s is damaged: records %s cannot be read", held.id, found)
        self._on_result(Scrubbed(held.id, found))

    def _inspect(self, held: HeldLedger, segment: Segment) -> None:
        damage = inspect(segment, self._pace)
        with held.changing:
            if damage != segment.index.damage and segment in held.sealed:
                segment.index.damage = damage
                replace_file(index_path(segment.path), segment.index.encode())

    def _pace(self, size_bytes: int) -> None:
        """Wait as long as reading this much may take, unless something else waits."""
        if self._jobs.closed:
            raise _Ended
        self._jobs.idle(size_bytes / self._limits.scrub_bytes_per_s)


def _takes_long(job: Repair | Path | Pass) -> bool:
    return isinstance(job, Pass)
