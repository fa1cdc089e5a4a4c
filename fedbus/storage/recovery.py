"""Recovery of ledger files: what a crash may have left, and what it cannot have left.

A crash leaves at most an invalid end in the last segment of the newest ledger, for nothing else was being written.
That *torn tail* is copied into ``quarantine/`` and only then cut off. Every other invalid stretch (followed by a valid
record, or in a file that was sealed) is *damage*: the file is left as it is, the stretch is reported, and what is good
on both sides is served. Nothing is ever deleted, and every step can be repeated after a crash in its middle. A record's
``confirmed`` never exceeds its own number, so that a tail behind the last valid record is never one that a record of
this file knows to be confirmed; what the noted record of a copy knows to be is never cut (:func:`recover_runs`).

Method: protocol rule 6; write-ahead log recovery as in BookKeeper and SQLite, with the tail kept.
"""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path

from fedbus.errors import StorageError
from fedbus.storage.durable import REFUSALS, replace_file
from fedbus.storage.quarantine import set_file_aside, set_tail_aside
from fedbus.storage.segment import MAX_HEADER_BYTES, decode_header, first_number_of, segment_paths
from fedbus.storage.segment_index import Mark, Segment, SegmentIndex, decode_index, index_path
from fedbus.storage.survey import Header, missing, survey


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


def recover_runs(directory: Path, ledger: str, *, confirmed: int, set_aside: list[Path]) -> list[list[Segment]]:
    """The runs of a copy: its segments in order, in a list of their own after each hole.

    A segment without an index was being written. An invalid end of one is a torn tail and is set aside; but what lies
    at the copy's very end, at or below ``confirmed``, had been promised: it is damage, is left where it is, and the
    copy ends before it. What is missing *between* runs is not damage: it was never here, or is fetched again like it.
    """
    runs: list[list[Segment]] = []
    paths = segment_paths(directory)
    end = Mark(0, 0, 0)
    for path in paths:
        header = _read_header(path, ledger)
        index = _load_index(path, ledger, header, end)
        if index is None:
            index = _recover_end(path, ledger, header, end, confirmed if path == paths[-1] else 0, set_aside)
        if index is None or index.end.number == index.first_number:  # no record is in it: the next needs its name
            if index is not None and index.damage:
                set_aside.append(set_file_aside(path))
            path.unlink(missing_ok=True)
            index_path(path).unlink(missing_ok=True)
            continue
        if runs and index.first_number == end.number:
            runs[-1].append(Segment(path, index))
        else:
            runs.append([Segment(path, index)])
        end = index.end
    return runs


def _recover_end(
    path: Path, ledger: str, header: Header | None, previous: Mark, confirmed: int, set_aside: list[Path]
) -> SegmentIndex | None:
    found = survey(path, ledger, header, previous)
    if found.end.number >= confirmed or (header is None and found.end.position == 0):
        return _recover_last(path, ledger, header, previous, set_aside)
    return _rebuild(path, ledger, header, previous)


def _read_header(path: Path, ledger: str) -> Header | None:
    with path.open("rb") as file:
        found = decode_header(file.read(MAX_HEADER_BYTES), path)
    if found and (found[0].ledger, found[0].first_number) != (ledger, first_number_of(path)):
        raise StorageError(
            f"{path} says it is the segment from record {found[0].first_number} of ledger {found[0].ledger}, but by "
            f"its place it is from record {first_number_of(path)} of {ledger}. Nothing was changed: put the file back "
            "where it belongs, or move it out of the data directory."
        )
    return found


def _load_index(path: Path, ledger: str, header: Header | None, previous: Mark) -> SegmentIndex | None:
    """The index of a sealed segment from its file; ``None`` if there is no good one."""
    try:
        index = decode_index(index_path(path).read_bytes())
    except FileNotFoundError:
        return None
    if index is None or (index.ledger, index.first_number) != (ledger, first_number_of(path)):
        return None
    if header is not None and header[0].edition != index.edition:  # of the file that was here before a repair
        return None
    if path.stat().st_size < index.end.position:  # it has lost its end since it was sealed
        shorter = survey(path, ledger, header, previous)
        shorter.report(missing(path, shorter.end, index.end.position, index.end))
        shorter.end = Mark(index.end.offset, index.end.number, shorter.end.position)
        return shorter
    if header is None:
        mark = Mark(index.first_offset, index.first_number, 0)
        index.report(missing(path, mark, index.first_position, mark))
    return index


def _rebuild(path: Path, ledger: str, header: Header | None, previous: Mark) -> SegmentIndex:
    """A sealed segment whose index is lost; an invalid end in it is damage, of an extent the next segment tells."""
    index = survey(path, ledger, header, previous)
    size = path.stat().st_size
    if index.end.position < size:
        index.report(missing(path, index.end, size, index.end))
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
    index.report(missing(segment.path, index.end, max(segment.path.stat().st_size, index.end.position), start))
    index.end = start


def _recover_last(
    path: Path, ledger: str, header: Header | None, previous: Mark, set_aside: list[Path]
) -> SegmentIndex | None:
    """The segment that was being written, without its torn tail; ``None`` if it never got a header.

    It is sealed here, because the next incarnation writes another ledger.
    """
    index = survey(path, ledger, header, previous)
    if header is None and index.end.position == 0:
        set_aside.append(set_file_aside(path))
        return None
    if index.end.position < path.stat().st_size:
        try:
            set_aside.append(set_tail_aside(path, index.end.position))
        except OSError as error:
            if error.errno not in REFUSALS:
                raise
            return index  # no room to keep it: it stays where it is until a later open, and nobody reads beyond the end
    _seal(path, index)
    return index
