"""Recovery of ledger files: what a crash may have left, and what it cannot have left.

A crash leaves at most an invalid end in the last segment of the newest ledger, for nothing else was being written.
That *torn tail* is copied into ``quarantine/`` and only then cut off. Every other invalid stretch (followed by a valid
record, or in a file that was sealed) is *damage*: the file is left as it is, the stretch is reported, and what is good
on both sides is served. Nothing is ever deleted, and every step can be repeated after a crash in its middle. A record's
``confirmed`` never exceeds its own number, so that a tail behind the last valid record is never one that a record of
this file knows to be confirmed. (With copies elsewhere, their word has to be asked for before a tail is cut.)

Method: protocol rule 6; write-ahead log recovery as in BookKeeper and SQLite, with the tail kept.
"""

from __future__ import annotations

import contextlib
import os
from itertools import count, pairwise
from pathlib import Path

from fedbus.broker.record import ledger_seed
from fedbus.errors import StorageError
from fedbus.storage.durable import COPY_BYTES, PART_SUFFIX, copy_from, fsync_directory, make_directory, replace_file
from fedbus.storage.segment import (
    MAX_HEADER_BYTES,
    SegmentHeader,
    Whole,
    Window,
    decode_header,
    first_number_of,
    scan,
    segment_paths,
)
from fedbus.storage.segment_index import Damage, Mark, Segment, SegmentIndex, decode_index, index_path

QUARANTINE = "quarantine"


def recover_ledger(directory: Path, ledger: str, *, newest: bool, set_aside: list[Path]) -> list[Segment]:
    """The segments of one ledger in order, proven or rebuilt; only the ``newest`` one's last may lose a torn tail.

    What was set aside is appended to ``set_aside``. Raises :class:`StorageError` for a file of another ledger or of an
    unknown format version, :class:`OSError` if the disk fails.
    """
    segments: list[Segment] = []
    paths = segment_paths(directory)
    for path in paths:
        end = segments[-1].index.end if segments else Mark(0, first_number_of(path), 0)
        header = _read_header(path, ledger)
        index = _load_index(path, ledger, header, end)
        if index is None and newest and path == paths[-1]:
            index = _recover_last(path, ledger, header, end, set_aside)
        elif index is None:
            index = _rebuild(path, ledger, header, end)
        if index is not None:
            segments.append(Segment(path, index))
    for segment, following in pairwise(segments):
        _close_gap(segment, following.index)
    return segments


def _read_header(path: Path, ledger: str) -> tuple[SegmentHeader, int] | None:
    with path.open("rb") as file:
        found = decode_header(file.read(MAX_HEADER_BYTES), path)
    if found and (found[0].ledger, found[0].first_number) != (ledger, first_number_of(path)):
        raise StorageError(
            f"{path} says it is the segment from record {found[0].first_number} of ledger {found[0].ledger}, but by "
            f"its place it is from record {first_number_of(path)} of {ledger}. Nothing was changed: put the file back "
            "where it belongs, or move it out of the data directory."
        )
    return found


def _load_index(
    path: Path, ledger: str, header: tuple[SegmentHeader, int] | None, previous: Mark
) -> SegmentIndex | None:
    """The index of a sealed segment from its file; ``None`` if there is no good one."""
    try:
        index = decode_index(index_path(path).read_bytes())
    except FileNotFoundError:
        return None
    if index is None or (index.ledger, index.first_number) != (ledger, first_number_of(path)):
        return None
    if path.stat().st_size < index.end.position:  # it has lost its end since it was sealed
        shorter = _survey(path, ledger, header, previous)
        shorter.report(_missing(path, shorter.end, index.end.position, index.end))
        shorter.end = Mark(index.end.offset, index.end.number, shorter.end.position)
        return shorter
    if header is None:
        mark = Mark(index.first_offset, index.first_number, 0)
        index.report(_missing(path, mark, index.first_position, mark))
    return index


def _survey(path: Path, ledger: str, header: tuple[SegmentHeader, int] | None, previous: Mark) -> SegmentIndex:
    """The index of a segment from a scan of all of it, damage between its records included."""
    if header is None:
        head, start = SegmentHeader(ledger, first_number_of(path), previous.offset, 0), 0
    else:
        head, start = header
    index = SegmentIndex.empty(head, start)
    with path.open("rb", buffering=0) as file:
        window = Window(file.fileno(), path.stat().st_size)
        for found in scan(window, start, seed=ledger_seed(ledger), after=index.first_number - 1, payload=False):
            if isinstance(found, Whole):
                record = found.record
                if found.position != index.end.position or record.number != index.end.number:
                    here = Mark(record.first_offset, record.number, found.position)
                    index.report(_missing(path, index.end, found.position, here))
                index.add(record, found.position, found.end)
    return index


def _missing(path: Path, last: Mark, end: int, following: Mark) -> Damage:
    return Damage(
        path.name, last.position, end, last.number, following.number, last.offset, max(following.offset, last.offset)
    )


def _rebuild(path: Path, ledger: str, header: tuple[SegmentHeader, int] | None, previous: Mark) -> SegmentIndex:
    """A sealed segment whose index is lost; an invalid end in it is damage, of an extent the next segment tells."""
    index = _survey(path, ledger, header, previous)
    size = path.stat().st_size
    if index.end.position < size:
        index.report(_missing(path, index.end, size, index.end))
    _seal(path, index)
    return index


def _seal(path: Path, index: SegmentIndex) -> None:
    with contextlib.suppress(OSError):  # it can be rebuilt again: a full disk must not stop a recovery
        replace_file(index_path(path), index.encode())


def _close_gap(segment: Segment, following: SegmentIndex) -> None:
    """Where the next segment begins further on than this one ends, records are missing between them."""
    index = segment.index
    if following.first_number <= index.end.number:
        return
    start = Mark(following.first_offset, following.first_number, index.end.position)
    index.damage = [known for known in index.damage if known.start != index.end.position]
    index.report(_missing(segment.path, index.end, max(segment.path.stat().st_size, index.end.position), start))
    index.end = start


def _recover_last(
    path: Path, ledger: str, header: tuple[SegmentHeader, int] | None, previous: Mark, set_aside: list[Path]
) -> SegmentIndex | None:
    """The segment that was being written, without its torn tail; ``None`` if it never got a header.

    It is sealed here, because the next incarnation writes another ledger.
    """
    index = _survey(path, ledger, header, previous)
    if header is None and index.end.position == 0:
        set_aside.append(_set_file_aside(path))
        return None
    if index.end.position < path.stat().st_size:
        set_aside.append(_set_tail_aside(path, index.end.position))
    _seal(path, index)
    return index


def _set_file_aside(path: Path) -> Path:
    quarantine = path.parent / QUARANTINE
    make_directory(quarantine)
    target = next(name for name in _names(quarantine, path, 0) if not name.exists())
    path.rename(target)
    fsync_directory(quarantine)
    fsync_directory(path.parent)
    return target


def _set_tail_aside(path: Path, position: int) -> Path:
    quarantine = path.parent / QUARANTINE
    make_directory(quarantine)
    with path.open("r+b", buffering=0) as file:
        fd = file.fileno()
        target = next(n for n in _names(quarantine, path, position) if not n.exists() or _same(fd, position, n))
        copy_from(fd, position, target)
        os.ftruncate(fd, position)
        os.fsync(fd)
    return target


def _names(quarantine: Path, path: Path, position: int) -> list[Path]:
    """Names for a tail, best first: what was set aside before is never overwritten by something else."""
    stem = f"{path.name}.{position}"
    taken = sum(1 for name in quarantine.glob(f"{stem}.*") if name.suffix != PART_SUFFIX)
    return [quarantine / (f"{stem}.tail" if n == 0 else f"{stem}.{n}.tail") for n in range(taken + 1)]


def _same(fd: int, position: int, path: Path) -> bool:
    with path.open("rb", buffering=0) as file:
        for done in count(0, COPY_BYTES):
            ours = os.pread(fd, COPY_BYTES, position + done)
            if ours != os.pread(file.fileno(), COPY_BYTES, done):
                return False
            if len(ours) < COPY_BYTES:
                return True
    return False  # pragma: no cover - the count has no end
