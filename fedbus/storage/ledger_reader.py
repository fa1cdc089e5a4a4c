"""Reading events back from ledger files: every record is proven again, each time, before it is handed out.

Safe beside the thread that appends: a read looks only below the ends it found published when it began. A few segments
are kept open, and where a reader left off is remembered, so that reading on costs no search.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from fedbus.broker.record import Kind, Record, ledger_seed
from fedbus.storage.segment import Gap, Window, scan
from fedbus.storage.segment_index import Damage, Mark, Segment

OPEN_SEGMENTS = 16  # file descriptors kept for reading, of all ledgers together
PLACES_REMEMBERED = 1024  # where readers left off
_READ_CHUNK_BYTES = 256 * 1024


class EventsRead(NamedTuple):
    """EVENTS records in order, where to read on, and how many offsets before that could not be read."""

    records: list[Record]
    next_offset: int
    damaged: int


class LedgerReader:
    """Reads of all ledgers of an instance, one at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._places: OrderedDict[tuple[Path, int], Mark] = OrderedDict()

    def read(self, ledger: str, segments: Sequence[Segment], offset: int, max_bytes: int) -> EventsRead:
        """EVENTS records from the one that contains or follows ``offset``: up to ``max_bytes``, at least one.

        Raises :class:`OSError` if a segment cannot be opened; what cannot be read inside one counts as damaged.
        """
        ends = [segment.index.end for segment in segments]
        if not segments or offset >= ends[-1].offset:
            return EventsRead([], offset, 0)
        first = max(bisect_right([segment.index.first_offset for segment in segments], offset) - 1, 0)
        found = _Found(ledger_seed(ledger), max(offset, segments[0].index.first_offset), max_bytes)
        with self._lock:
            for segment, end in zip(segments[first:], ends[first:], strict=True):
                if not self._collect(segment, end, found):
                    return EventsRead(found.records, found.offset, found.damaged)
        return EventsRead(found.records, ends[-1].offset, found.damaged + ends[-1].offset - found.offset)

    def _collect(self, segment: Segment, end: Mark, found: _Found) -> bool:
        """Collect from one segment; whether there is room for more."""
        start = last = self._places.get((segment.path, found.offset)) or segment.index.before(found.offset)
        window = Window(self._fd(segment.path), end.position, chunk_bytes=_READ_CHUNK_BYTES, lenient=True)
        gap: Gap | None = None
        for step in scan(window, start.position, seed=found.seed, after=start.number - 1):
            if isinstance(step, Gap):
                gap = step
                continue
            record = step.record
            if gap is not None:
                _report(segment, gap, last, Mark(record.first_offset, record.number, step.position))
                gap = None
            last = Mark(record.next_offset, record.number + 1, step.end)
            if record.kind is not Kind.EVENTS or record.next_offset <= found.offset:
                continue
            if not found.take(record):
                return False
            self._remember(segment.path, last)
        if gap is not None:
            _report(segment, gap, last, end)
        self._remember(segment.path, end)
        return True

    def _remember(self, path: Path, mark: Mark) -> None:
        self._places[path, mark.offset] = mark
        self._places.move_to_end((path, mark.offset))
        while len(self._places) > PLACES_REMEMBERED:
            self._places.popitem(last=False)

    def _fd(self, path: Path) -> int:
        fd = self._open.get(path)
        if fd is None:
            while len(self._open) >= OPEN_SEGMENTS:
                os.close(self._open.popitem(last=False)[1])
            fd = self._open[path] = os.open(path, os.O_RDONLY)
        self._open.move_to_end(path)
        return fd

    def close(self) -> None:
        """Close all files; a later read opens them again."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])


class _Found:
    """What one read has collected so far: ``offset`` is the next one it wants."""

    __slots__ = ("_max_bytes", "_size_bytes", "damaged", "offset", "records", "seed")

    def __init__(self, seed: int, offset: int, max_bytes: int) -> None:
        self.seed = seed
        self.offset = offset
        self.damaged = 0
        self.records: list[Record] = []
        self._max_bytes = max_bytes
        self._size_bytes = 0

    def take(self, record: Record) -> bool:
        """Take the record if there is room for it; the first always fits."""
        if self.records and self._size_bytes + record.size_bytes > self._max_bytes:
            return False
        self.damaged += max(record.first_offset - self.offset, 0)
        self.offset = record.next_offset
        self._size_bytes += record.size_bytes
        self.records.append(record)
        return True


def _report(segment: Segment, gap: Gap, last: Mark, following: Mark) -> None:
    offsets = (last.offset, max(following.offset, last.offset))
    segment.index.report(Damage(segment.path.name, gap.position, gap.end, last.number, following.number, *offsets))
