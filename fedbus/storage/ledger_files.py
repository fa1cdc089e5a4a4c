"""The ledger files of one instance: closed ledgers to read, and one open ledger to append to.

Layout: ``<directory>/ledgers/<epoch>/<number of the first record>.seg``, with an ``.idx`` beside each sealed segment
and ``quarantine/`` for torn tails. Each incarnation creates one ledger; earlier ones never change again. That only one
process at a time is here is seen to by the data directory's lock. ``open``, ``create``, ``append``, ``sync``,
``roll_segment`` and ``close`` belong to one thread at a time; ``read``, ``ledgers`` and the properties may be called
from others meanwhile.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from fedbus.broker.record import Record
from fedbus.errors import NotFoundError, StorageError
from fedbus.limits import Limits
from fedbus.position import LedgerId
from fedbus.storage.durable import make_directory
from fedbus.storage.ledger_reader import EventsRead, LedgerReader
from fedbus.storage.recovery import recover_ledger
from fedbus.storage.segment import SegmentHeader
from fedbus.storage.segment_index import Damage, Mark, Segment
from fedbus.storage.segment_writer import SegmentWriter
from fedbus.storage.state_records import state_records

LEDGERS = "ledgers"
# The disk says no and nothing is broken: full, over quota, file size limit.
REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class LedgerInfo(msgspec.Struct, frozen=True):
    """One ledger: offsets ``[first_offset, end_offset)`` are durable here; ``next_number`` is past the last record."""

    id: str
    first_offset: int
    end_offset: int
    next_number: int
    closed: bool
    damage: tuple[Damage, ...]
    size_bytes: int
    segments: int


class _Ledger:
    """A ledger's segments; the tuple is replaced, never changed, so that readers may hold on to it."""

    __slots__ = ("directory", "id", "segments")

    def __init__(self, id: str, directory: Path, segments: Sequence[Segment]) -> None:
        self.id = id
        self.directory = directory
        self.segments = tuple(segments)

    @property
    def end(self) -> Mark:
        """The durable end."""
        return self.segments[-1].index.end if self.segments else Mark(0, 0, 0)

    def info(self, *, closed: bool) -> LedgerInfo:
        """What there is to know about it now."""
        segments, end = self.segments, self.end
        return LedgerInfo(
            id=self.id,
            first_offset=segments[0].index.first_offset if segments else 0,
            end_offset=end.offset,
            next_number=end.number,
            closed=closed,
            damage=tuple(damage for segment in segments for damage in sorted(segment.index.damage, key=_start)),
            size_bytes=sum(segment.index.end.position for segment in segments),
            segments=len(segments),
        )


def _start(damage: Damage) -> int:
    return damage.start


class LedgerFiles:
    """All ledgers in an instance's directory.

    ``now_ms`` gives Unix time for segment headers; ``fdatasync`` is what makes appends durable (tests let it fail).
    ``set_aside`` lists the torn tails that :meth:`open` moved to quarantine.
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
        self.limits = limits
        self.set_aside: list[Path] = []
        self._root = directory / LEDGERS
        self._region = region
        self._instance = instance
        self._now_ms = now_ms
        self._fdatasync = fdatasync
        self._ledgers: dict[str, _Ledger] = {}  # oldest first; replaced when one is added
        self._current: _Ledger | None = None
        self._writer: SegmentWriter | None = None
        self._failure = ""
        self._reader = LedgerReader()

    def open(self) -> None:
        """Recover what is there (see :mod:`fedbus.storage.recovery`); nothing is written to until :meth:`create`.

        Raises :class:`StorageError` if the files cannot be read, or are not this software's or this instance's.
        """
        try:
            make_directory(self._root)
            epochs = sorted(int(path.name) for path in self._root.iterdir() if path.name.isdecimal())
            for epoch in epochs:
                ledger = self._name(epoch)
                directory = self._root / str(epoch)
                segments = recover_ledger(directory, ledger, newest=epoch == epochs[-1], set_aside=self.set_aside)
                self._ledgers[ledger] = _Ledger(ledger, directory, segments)
        except OSError as error:
            raise StorageError(
                f"the ledgers in {self._root} cannot be opened: {error}. Nothing was deleted; check the disk, its free "
                "space and who may read and write there."
            ) from error

    def _name(self, epoch: int) -> str:
        return str(LedgerId(self._region, self._instance, epoch))

    @property
    def next_epoch(self) -> int:
        """One above the highest epoch present; 0 in an empty directory."""
        return max((LedgerId.parse(ledger).epoch + 1 for ledger in self._ledgers), default=0)

    def ledgers(self) -> list[LedgerInfo]:
        """All ledgers, the oldest first."""
        return [ledger.info(closed=ledger is not self._current) for ledger in self._ledgers.values()]

    def create(self, epoch: int) -> str:
        """Begin a new ledger and return its id; from then on all earlier ones are closed.

        Raises :class:`StorageError` if the epoch is not above all present ones or the disk refuses.
        """
        if epoch < self.next_epoch:
            raise StorageError(f"epoch {epoch} was used before in {self._root}: the next free one is {self.next_epoch}")
        ledger = self._name(epoch)
        directory = self._root / str(epoch)
        try:
            self.sync()
            self.roll_segment()
            make_directory(directory)
            writer = self._new_segment(ledger, directory, Mark(0, 0, 0))
        except OSError as error:
            raise StorageError(f"ledger {ledger} cannot be created in {directory}: {error}") from error
        self._writer = writer
        self._current = _Ledger(ledger, directory, (writer.segment,))
        self._ledgers = {**self._ledgers, ledger: self._current}
        return ledger

    def _new_segment(self, ledger: str, directory: Path, end: Mark) -> SegmentWriter:
        header = SegmentHeader(ledger, end.number, end.offset, self._now_ms())
        return SegmentWriter(directory, header, self._fdatasync)

    def append(self, records: Sequence[Record]) -> None:
        """Write records behind the last ones; durable and visible to :meth:`read` after :meth:`sync`.

        Raises :class:`StorageError` if the disk refuses (full): then everything since the last sync was taken back and
        the ledger can be appended to again, from its durable end. Raises :class:`OSError` if it fails: then no more
        may be written.
        """
        self._check()
        ledger = self._current
        assert ledger is not None, "there is no open ledger: create() one"
        try:
            if self._writer is None:
                self._writer = self._new_segment(ledger.id, ledger.directory, ledger.end)
            self._writer.append(records)
        except OSError as error:
            self._refused_or_failed(error, ledger.id)

    def _refused_or_failed(self, error: OSError, ledger: str) -> None:
        if error.errno not in REFUSALS:
            self._failure = str(error)
            raise error
        if self._writer is not None:
            try:
                self._writer.roll_back()
            except OSError as second:
                self._failure = str(second)
                raise
        raise StorageError(
            f"the disk takes no more of ledger {ledger} ({os.strerror(error.errno or 0)}). Nothing of the batch was "
            "stored; writing resumes by itself when there is space."
        ) from error

    def sync(self) -> None:
        """Make all that was appended durable. An :class:`OSError` is final: nothing more may be written, ever."""
        self._check()
        if self._writer is None:
            return
        try:
            self._writer.sync()
        except OSError as error:
            self._failure = str(error)
            raise
        ledger, segment = self._current, self._writer.segment
        assert ledger is not None
        if ledger.segments[-1] is not segment and segment.index.marks:  # readers see it once something in it is durable
            ledger.segments = (*ledger.segments, segment)

    def _check(self) -> None:
        if self._failure:
            raise OSError(errno.EIO, f"the ledger has failed before and takes no writes: {self._failure}")

    def roll_segment(self) -> None:
        """Seal the segment being written (synced before); the next append opens another. Nothing if it is empty."""
        if self._writer is None or not self._writer.index.marks:
            return
        self._writer.seal()
        self._writer = None

    def read(self, ledger: str, offset: int, max_bytes: int) -> EventsRead:
        """Durable EVENTS records from the one that contains or follows ``offset``; see :class:`EventsRead`.

        About ``max_bytes``, but at least one record if there is any. Raises :class:`NotFoundError` for a ledger that is
        not here and :class:`StorageError` if its files cannot be opened. Damaged records are left out and counted.
        """
        found = self._ledgers.get(ledger)
        if found is None:
            raise NotFoundError(f"ledger {ledger} is not in {self._root}")
        try:
            return self._reader.read(ledger, found.segments, offset, max_bytes)
        except OSError as error:
            raise StorageError(f"ledger {ledger} cannot be read: {error}") from error

    def state_records(self) -> Iterator[tuple[str, Record]]:
        """(ledger, record) from the newest SNAPSHOT on, over all later segments and ledgers; EVENTS without payload.

        Everything there is if there is no snapshot. What is damaged is left out (see ``LedgerInfo.damage``). Raises
        :class:`StorageError` if the disk fails.
        """
        ledgers = self._ledgers.values()
        try:
            yield from state_records([(ledger.id, segment) for ledger in ledgers for segment in ledger.segments])
        except OSError as error:
            raise StorageError(f"the state in {self._root} cannot be read: {error}") from error

    def close(self) -> None:
        """Close all files; a clean end seals, so that the next :meth:`open` has nothing to scan.

        What was synced stays, what was not may or may not.
        """
        if self._writer is not None and self._writer.end == self._writer.index.end and not self._failure:
            self.roll_segment()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._reader.close()
