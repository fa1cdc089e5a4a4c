"""The ledger files of one instance: the ledger it writes, its earlier ones, and copies of others'.

That only one process at a time is here is seen to by the data directory's lock. What changes files belongs to one
thread at a time (the committer's, and the scrubber's for repairs); reads may come from others meanwhile.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedbus.broker.record import Record
from fedbus.errors import StorageError
from fedbus.limits import Limits
from fedbus.position import LedgerId
from fedbus.storage.held_ledger import HeldLedger, LedgerDisk
from fedbus.storage.ledger_directory import LedgerDirectory
from fedbus.storage.ledger_info import LedgerInfo, info
from fedbus.storage.ledger_note import has_note, known_confirmed, read_note
from fedbus.storage.ledger_reads import LedgerReads
from fedbus.storage.recovery import recover_ledger, recover_runs

_ROLL_COPIES_FROM = 4  # a copy's segment may be rolled from a quarter of the usual size on


class LedgerFiles(LedgerReads):
    """All ledgers in an instance's directory.

    ``now_ms`` gives Unix time for segment headers; ``fdatasync`` is what makes appends durable (tests let it fail).
    ``set_aside`` lists what :meth:`open` moved to quarantine. ``current`` is the ledger being written.
    """

    def __init__(
        self,
        directory: Path,
        region: str,
        instance: str,
        limits: Limits,
        now_ms: Callable[[], int],
        *,
        fdatasync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        super().__init__(str(directory))
        self.limits = limits
        self.set_aside: list[Path] = []
        self.current: HeldLedger | None = None
        self._directory = LedgerDirectory(directory, region, instance)
        self._disk = LedgerDisk(now_ms, fdatasync, self.reader, limits.segment_bytes // _ROLL_COPIES_FROM)

    def open(self) -> None:
        """Recover what is there (see :mod:`fedbus.storage.recovery`); nothing is written to until :meth:`create`.

        Raises :class:`StorageError` if the files cannot be read, or are not this software's or this instance's.
        """
        try:
            found = list(self._directory.found())
            newest = max((id for id in found if self._directory.is_own(id)), default=None)
            self._ledgers = {str(id): self._recovered(id, newest=id == newest) for id in found}
        except OSError as error:
            raise StorageError(
                f"the ledgers in {self._where} cannot be opened: {error}. Nothing was deleted; check the disk, its "
                "free space and who may read and write there."
            ) from error

    def _recovered(self, id: LedgerId, *, newest: bool) -> HeldLedger:
        ledger, place = str(id), self._directory.place(id)
        held = HeldLedger(ledger, place, self._disk, read_note(place))
        before = len(self.set_aside)
        if self._directory.is_own(id) and not has_note(place):
            segments = recover_ledger(place, ledger, newest=newest, set_aside=self.set_aside)
            runs = [segments] if segments else []
        else:
            runs = recover_runs(place, ledger, confirmed=known_confirmed(held.record), set_aside=self.set_aside)
        held.recovered(runs, torn=len(self.set_aside) > before)
        record = held.record
        if record is not None and record.end_number is not None and held.end.number > record.end_number:
            held.cut(record.end_number)  # a sync had failed, and what it was to make durable is there all the same
        return held

    # -- what is here --------------------------------------------------------------------------------------------------

    @property
    def own(self) -> list[HeldLedger]:
        """The ledgers this instance has written, the oldest first."""
        ids = sorted(id for id in map(LedgerId.parse, self._ledgers) if self._directory.is_own(id))
        return [self._ledgers[str(id)] for id in ids]

    @property
    def next_epoch(self) -> int:
        """One above the highest epoch of its own present; 0 in an empty directory."""
        return max((LedgerId.parse(held.id).epoch + 1 for held in self.own), default=0)

    def ledgers(self) -> list[LedgerInfo]:
        """Every ledger, its own first and the oldest first."""
        return [info(held, closed=held is not self.current) for held in self.all()]

    def state_records(self) -> Iterator[tuple[str, Record]]:
        """As :meth:`LedgerReads.fold`, over all of its own ledgers."""
        return self.fold([held.id for held in self.own])

    # -- changing what is here -----------------------------------------------------------------------------------------

    def hold(self, ledger: str) -> HeldLedger:
        """One of them, its directory made if it is not here yet. Raises :class:`OSError`."""
        found = self._ledgers.get(ledger)
        if found is None:
            found = HeldLedger(ledger, self._directory.make(LedgerId.parse(ledger)), self._disk)
            self._ledgers = {**self._ledgers, ledger: found}
        return found

    def create(self, epoch: int) -> str:
        """Begin a new ledger and return its id; from then on all earlier ones are closed.

        Raises :class:`StorageError` if the epoch is not above all that were written, or the disk refuses: then the
        ledger before is still the one being written. Raises :class:`OSError` if that one fails.
        """
        ledger = str(self._directory.own(epoch))
        written = max((LedgerId.parse(held.id).epoch for held in self.own if held.runs), default=-1)
        if epoch <= written:
            raise StorageError(f"epoch {epoch} was used before in {self._where}: the next free one is {written + 1}")
        self.sync()
        self.roll_segment()
        try:
            held = self.hold(ledger)
            held.begin()
        except OSError as error:
            raise StorageError(f"ledger {ledger} cannot be created in {self._where}: {error}") from error
        if self.current is not None:
            self.current.close()
        self.current = held
        return ledger

    def append(self, records: Sequence[Record]) -> None:
        """Write records behind the last ones of the current ledger; raises as :meth:`LedgerRun.append`."""
        assert self.current is not None, "there is no open ledger: create() one"
        if self.current.closed:
            raise OSError(errno.EPERM, f"ledger {self.current.id} is closed and takes no writes")
        self.current.runs[-1].append(records)

    def sync(self) -> None:
        """Make all that was appended durable. An :class:`OSError` is final: nothing more may be written, ever."""
        if self.current is not None:
            self.current.runs[-1].sync()

    def roll_segment(self) -> None:
        """Seal the segment being written (synced before); the next append opens another. Nothing if it is empty."""
        if self.current is not None:
            self.current.seal()

    def drop(self, ledger: str) -> Path | None:
        """Take a ledger out of use; returns the directory that may be deleted now. Raises :class:`OSError`."""
        held = self._ledgers.get(ledger)
        if held is None:
            return None
        assert held is not self.current, f"ledger {ledger} is being written: it cannot be dropped"
        with held.giving_up():
            self._ledgers = {name: other for name, other in self._ledgers.items() if name != ledger}
            return self._directory.drop(held.directory)

    def close(self) -> None:
        """Close all files; a clean end seals, so that the next :meth:`open` has nothing to scan.

        What was synced stays, what was not may or may not.
        """
        for held in self._ledgers.values():
            held.close()
        self.reader.close()
