"""Reading records back from ledger files: every record is proven again, each time, before it is handed out.

Safe beside the thread that appends: a read looks only below the ends it found published when it began. A few segments
are kept open, and where a reader left off is remembered, so that reading on costs no search.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import ClassVar, NamedTuple, Protocol

from fedbus.broker.record import Kind, Record, ledger_seed
from fedbus.storage.segment import Gap, Window, scan
from fedbus.storage.segment_index import Damage, Mark, Segment, SegmentIndex

OPEN_SEGMENTS = 16  # file descriptors kept for reading, of all ledgers together
PLACES_REMEMBERED = 1024  # where readers left off
_READ_CHUNK_BYTES = 256 * 1024


class HasSegments(Protocol):
    """A ledger that is held here."""

    def segments_at(self, *, offset: int | None = None, number: int | None = None) -> Sequence[Segment]:
        """The segments, without a hole between them, in which to look; asked while nobody changes files."""
        ...


class EventsRead(NamedTuple):
    """EVENTS records in order, where to read on, and how many offsets before that could not be read."""

    records: list[Record]
    next_offset: int
    damaged: int


class RawRead(NamedTuple):
    """Records of all kinds in order, where to read on, and how many record numbers before that could not be read."""

    records: list[Record]
    next_number: int
    damaged: int


class LedgerReader:
    """Reads of all ledgers of an instance, one at a time. ``new_damage``: ledgers in which a read met some."""

    def __init__(self) -> None:
        self.new_damage: set[str] = set()
        self._lock = Lock()
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._places: OrderedDict[tuple[Path, bool, int], Mark] = OrderedDict()

    @contextmanager
    def changing(self, paths: Collection[Path]) -> Iterator[None]:
        """Nobody reads while these files are replaced, cut or dropped; what was known of them is forgotten."""
        with self._lock:
            for path in paths:
                fd = self._open.pop(path, None)
                if fd is not None:
                    os.close(fd)
            for place in [place for place in self._places if place[0] in paths]:
                del self._places[place]
            yield

    def read(self, ledger: str, held: HasSegments, offset: int, max_bytes: int) -> EventsRead:
        """EVENTS records from the one that contains or follows ``offset``: up to ``max_bytes``, at least one.

        Raises :class:`OSError` if a segment cannot be opened; what cannot be read inside one counts as damaged.
        """
        with self._lock:
            segments = held.segments_at(offset=offset)
            if not segments or offset >= segments[-1].index.end.offset:
                return EventsRead([], offset, 0)
            found = _Events(ledger, max(offset, segments[0].index.first_offset), max_bytes)
            first = max(bisect_right([segment.index.first_offset for segment in segments], offset) - 1, 0)
            self._collect_all(segments[first:], found)
        return EventsRead(found.records, found.at, found.damaged)

    def read_raw(self, ledger: str, held: HasSegments, number: int, max_bytes: int) -> RawRead:
        """Records of all kinds from ``number`` on, up to ``max_bytes``, at least one, up to the next hole.

        Nothing, with ``next_number`` where it was, if ``number`` is not here. Raises as :meth:`read`.
        """
        with self._lock:
            segments = held.segments_at(number=number)
            if not segments or not segments[0].index.first_number <= number < segments[-1].index.end.number:
                return RawRead([], number, 0)
            found = _Raw(ledger, number, max_bytes)
            first = bisect_right([segment.index.first_number for segment in segments], number) - 1
            self._collect_all(segments[first:], found)
        return RawRead(found.records, found.at, found.damaged)

    def _collect_all(self, segments: Sequence[Segment], found: _Found) -> None:
        ends = [segment.index.end for segment in segments]
        for segment, end in zip(segments, ends, strict=True):
            if not self._collect(segment, end, found):
                return
        found.skip_to(ends[-1])

    def _collect(self, segment: Segment, end: Mark, found: _Found) -> bool:
        """Collect from one segment; whether there is room for more."""
        start = last = self._places.get((segment.path, found.raw, found.at)) or found.mark_in(segment.index)
        window = Window(self._fd(segment.path), end.position, chunk_bytes=_READ_CHUNK_BYTES, lenient=True)
        gap: Gap | None = None
        for step in scan(window, start.position, seed=found.seed, after=start.number - 1):
            if isinstance(step, Gap):
                gap = step
                continue
            record = step.record
            if gap is not None:
                self._report(segment, gap, last, Mark(record.first_offset, record.number, step.position))
                gap = None
            last = Mark(record.next_offset, record.number + 1, step.end)
            if not found.wants(record):
                continue
            if not found.take(record):
                return False
            self._remember(segment.path, found, last)
        if gap is not None:
            self._report(segment, gap, last, end)
        self._remember(segment.path, found, end)
        return True

    def _report(self, segment: Segment, gap: Gap, last: Mark, following: Mark) -> None:
        offsets = (last.offset, max(following.offset, last.offset))
        if segment.index.report(
            Damage(segment.path.name, gap.position, gap.end, last.number, following.number, *offsets)
        ):
            self.new_damage.add(segment.index.ledger)

    def _remember(self, path: Path, found: _Found, mark: Mark) -> None:
        key = (path, found.raw, mark.number if found.raw else mark.offset)
        self._places[key] = mark
        self._places.move_to_end(key)
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


class _Found(ABC):
    """What one read has collected so far: ``at`` is the next offset or number it wants."""

    raw: ClassVar[bool]

    def __init__(self, ledger: str, at: int, max_bytes: int) -> None:
        self.seed = ledger_seed(ledger)
        self.at = at
        self.damaged = 0
        self.records: list[Record] = []
        self._max_bytes = max_bytes
        self._size_bytes = 0

    @abstractmethod
    def mark_in(self, index: SegmentIndex) -> Mark:
        """From where in a segment to scan."""

    @abstractmethod
    def span(self, record: Record) -> tuple[int, int]:
        """What of the sequence that is counted the record covers."""

    def wants(self, record: Record) -> bool:
        """Whether the record belongs to the answer."""
        return self.span(record)[1] > self.at

    def take(self, record: Record) -> bool:
        """Take the record if there is room for it; the first always fits."""
        if self.records and self._size_bytes + record.size_bytes > self._max_bytes:
            return False
        start, end = self.span(record)
        self.damaged += max(start - self.at, 0)
        self.at = end
        self._size_bytes += record.size_bytes
        self.records.append(record)
        return True

    def skip_to(self, end: Mark) -> None:
        """Everything was looked at: what is left before the end cannot be read."""
        last = end.number if self.raw else end.offset
        self.damaged += last - self.at
        self.at = last


class _Events(_Found):
    """EVENTS by offsets."""

    raw = False

    def mark_in(self, index: SegmentIndex) -> Mark:
        return index.before(self.at)

    def span(self, record: Record) -> tuple[int, int]:
        return record.first_offset, record.next_offset

    def wants(self, record: Record) -> bool:
        return record.kind is Kind.EVENTS and super().wants(record)


class _Raw(_Found):
    """All records by numbers."""

    raw = True

    def mark_in(self, index: SegmentIndex) -> Mark:
        return index.before_number(self.at)

    def span(self, record: Record) -> tuple[int, int]:
        return record.number, record.number + 1
