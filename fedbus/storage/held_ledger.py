"""One ledger held here: its runs of segments and the note beside them.

The ledger that the instance writes has one run. Its earlier ledgers and copies of others' are noted, may have several
runs (see :mod:`fedbus.storage.ledger_run`) and are cut when the ledger is closed. The committer's thread appends, notes
and cuts, the scrubber's repairs: ``changing`` keeps cuts and repairs apart, ``swapping`` the moments at which either
replaces the tuples that readers look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from fedbus.ledger_record import LedgerRecord
from fedbus.storage.cut import cut_run
from fedbus.storage.ledger_note import write_note
from fedbus.storage.ledger_reader import LedgerReader
from fedbus.storage.ledger_run import LedgerRun
from fedbus.storage.segment import SegmentHeader
from fedbus.storage.segment_index import Mark, Segment
from fedbus.storage.segment_writer import SegmentWriter


@dataclass(frozen=True, slots=True)
class LedgerDisk:
    """What all ledgers of an instance share: time for headers, the sync, the reader, when copies are rolled."""

    now_ms: Callable[[], int]
    fdatasync: Callable[[int], None]
    reader: LedgerReader
    roll_from_bytes: int


class HeldLedger:
    """A ledger in ``directory``. ``torn``: when it was opened, something unfinished behind its end was set aside."""

    def __init__(self, id: str, directory: Path, disk: LedgerDisk, record: LedgerRecord | None = None) -> None:
        self.id = id
        self.directory = directory
        self.disk = disk
        self.record = record
        self.torn = False
        self.runs: tuple[LedgerRun, ...] = ()  # by their starts; replaced, never changed
        self.changing = Lock()
        self.swapping = Lock()

    # -- what is here --------------------------------------------------------------------------------------------------

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All of them in order."""
        return tuple(segment for run in self.runs for segment in run.segments)

    @property
    def sealed(self) -> list[Segment]:
        """Those in which nothing is written any more."""
        return [segment for run in self.runs for segment in run.segments if segment is not run.writing]

    @property
    def end(self) -> Mark:
        """The durable end of the last run."""
        return self.runs[-1].end if self.runs else Mark(0, 0, 0)

    @property
    def closed(self) -> bool:
        """Whether the noted record says where the ledger ends."""
        return self.record is not None and self.record.end_number is not None

    def segments_at(self, *, offset: int | None = None, number: int | None = None) -> Sequence[Segment]:
        """Those of the run in which the offset or the number is, or might be."""
        runs = [run for run in self.runs if run.segments]
        found: Sequence[Segment] = runs[0].segments if runs else ()
        for run in runs:
            if (run.start.number <= number) if number is not None else (run.start.offset <= (offset or 0)):
                found = run.segments
        return found

    # -- runs ----------------------------------------------------------------------------------------------------------

    def recovered(self, runs: Sequence[Sequence[Segment]], *, torn: bool) -> None:
        """What recovery found here."""
        self.torn = torn
        for segments in runs:
            index = segments[0].index
            self.add_run(Mark(index.first_offset, index.first_number, 0), segments)

    def add_run(self, start: Mark, segments: Sequence[Segment] = ()) -> LedgerRun:
        """A run that begins there, with what was recovered of it."""
        run = LedgerRun(self.id, start, segments, self._new_segment, self.swapping)
        self.runs = tuple(sorted([*self.runs, run], key=_first_number))
        return run

    def begin(self) -> None:
        """Begin the ledger this instance writes from now on. Raises :class:`OSError`; it may be tried again."""
        run = self.add_run(Mark(0, 0, 0))
        try:
            run.begin()
        except OSError:
            self.runs = ()
            raise

    def _new_segment(self, end: Mark) -> SegmentWriter:
        header = SegmentHeader(self.id, end.number, end.offset, self.disk.now_ms())
        return SegmentWriter(self.directory, header, self.disk.fdatasync)

    # -- the note, and the end -----------------------------------------------------------------------------------------

    def note(self, record: LedgerRecord) -> LedgerRecord:
        """Keep the record durably, cutting first if it says where the ledger ends; returns the newest one noted.

        Raises :class:`OSError`; then nothing is noted, and it may be tried again.
        """
        known = self.record
        if known is not None and (known.term, known.version) >= (record.term, record.version):
            return known
        if record.end_number is not None:
            self.cut(record.end_number)
        write_note(self.directory, record)
        self.record = record
        return record

    def cut(self, end_number: int) -> None:
        """Set aside the records from ``end_number`` on. Raises :class:`OSError`; it may be tried again."""
        with self.changing:
            self.close()
            for run in reversed(self.runs):
                cut_run(run, end_number, self.disk.reader)
            self.runs = tuple(run for run in self.runs if run.segments)

    def seal(self) -> None:
        """Seal what is being written (and synced): only sealed segments are scrubbed and repaired."""
        for run in self.runs:
            run.roll()

    def close(self) -> None:
        """Close all files."""
        for run in self.runs:
            run.close()

    @contextmanager
    def giving_up(self) -> Iterator[None]:
        """Nobody reads, writes or repairs it while it is taken out of use; it holds nothing afterwards."""
        with self.changing, self.disk.reader.changing([segment.path for segment in self.segments]):
            self.close()
            yield
            self.runs = ()


def _first_number(run: LedgerRun) -> int:
    return run.start.number
