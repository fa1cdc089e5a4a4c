"""A survey: what a segment file holds, from a scan of all of it, damage between its records included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedbus.broker.record import ledger_seed
from fedbus.storage.segment import (
    MAX_HEADER_BYTES,
    SegmentHeader,
    Whole,
    Window,
    decode_header,
    first_number_of,
    scan,
)
from fedbus.storage.segment_index import Damage, Mark, Segment, SegmentIndex

Header = tuple[SegmentHeader, int]  # and its size in bytes


class PacedWindow(Window):
    """A window whose reader is told how many bytes were read, and may wait there. Unreadable sectors are damage."""

    __slots__ = ("_pace",)

    def __init__(self, fd: int, end: int, pace: Callable[[int], None]) -> None:
        super().__init__(fd, end, lenient=True)
        self._pace = pace

    def _pread(self, size: int, position: int) -> bytes:
        self._pace(size)
        return super()._pread(size, position)


def survey(path: Path, ledger: str, header: Header | None, previous: Mark) -> SegmentIndex:
    """The index of a segment from a scan; ``previous`` is where the segment before it ends.

    ``index.end`` is behind the last proven record. Raises :class:`OSError` if the disk cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return _survey(Window(file.fileno(), path.stat().st_size), path, ledger, header, previous)


def _survey(window: Window, path: Path, ledger: str, header: Header | None, previous: Mark) -> SegmentIndex:
    if header is None:
        head, start = SegmentHeader(ledger, first_number_of(path), previous.offset, 0), 0
    else:
        head, start = header
    index = SegmentIndex.empty(head, start)
    for found in scan(window, start, seed=ledger_seed(ledger), after=index.first_number - 1, payload=False):
        if not isinstance(found, Whole):
            continue
        record = found.record
        if header is None and not index.marks and record.number == index.first_number:
            index.first_offset = record.first_offset
            index.end = Mark(record.first_offset, record.number, 0)
        if found.position != index.end.position or record.number != index.end.number:
            here = Mark(record.first_offset, record.number, found.position)
            index.report(missing(path, index.end, found.position, here))
        index.add(record, found.position, found.end)
    return index


def inspect(segment: Segment, pace: Callable[[int], None]) -> list[Damage]:
    """All damage in a sealed segment, its header's included, as the disk has it now. Raises :class:`OSError`."""
    index, path = segment.index, segment.path
    with path.open("rb", buffering=0) as file:
        window = PacedWindow(file.fileno(), index.end.position, pace)
        data, at = window.at(0, MAX_HEADER_BYTES)
        header = decode_header(data[at : at + MAX_HEADER_BYTES], path)
        before = Mark(index.first_offset, index.first_number, 0)
        if header is not None and header[1] != index.first_position:
            header = None
        found = _survey(window, path, index.ledger, header, before)
    if found.end.number < index.end.number:
        found.report(missing(path, found.end, index.end.position, index.end))
    return found.damage


def missing(path: Path, last: Mark, end: int, following: Mark) -> Damage:
    """Damage from the ``last`` good place to byte ``end``, behind which ``following`` comes."""
    return Damage(
        path.name, last.position, end, last.number, following.number, last.offset, max(following.offset, last.offset)
    )
