"""Cutting a closed ledger's copy at its end: what lies beyond is set aside, never deleted (protocol rule 5f).

Every step can be repeated after a crash in its middle, and the note that the ledger is closed is written only after.
"""

from __future__ import annotations

from fedbus.broker.record import ledger_seed
from fedbus.storage.durable import fsync_directory, replace_file
from fedbus.storage.ledger_reader import LedgerReader
from fedbus.storage.ledger_run import LedgerRun
from fedbus.storage.quarantine import set_file_aside, set_tail_aside
from fedbus.storage.segment import Gap, Window, scan
from fedbus.storage.segment_index import Mark, Segment, SegmentIndex, index_path


def cut_run(run: LedgerRun, end_number: int, reader: LedgerReader) -> None:
    """Take the records from ``end_number`` on out of a run that is closed. Raises :class:`OSError`."""
    beyond = [segment for segment in run.segments if segment.index.first_number >= end_number]
    kept = run.segments[: len(run.segments) - len(beyond)]
    across = kept[-1:] if kept and kept[-1].index.end.number > end_number else ()
    with reader.changing([segment.path for segment in (*across, *beyond)]):
        for segment in reversed(beyond):
            _forget_index(segment)
            if segment.path.exists():  # else an earlier try got that far
                set_file_aside(segment.path)
        run.segments = (*kept[:-1], cut_segment(kept[-1], end_number)) if across else kept


def cut_segment(segment: Segment, end_number: int) -> Segment:
    """The sealed segment without the records from ``end_number`` on. Raises :class:`OSError`."""
    cut = _place_of(segment, end_number)
    _forget_index(segment)
    if cut.position < segment.path.stat().st_size:
        set_tail_aside(segment.path, cut.position)
    old = segment.index
    index = SegmentIndex(
        old.ledger, old.first_number, old.first_offset, old.first_position, cut,
        [mark for mark in old.marks if mark.position < cut.position],
        [position for position in old.snapshots if position < cut.position],
        damage=[damage for damage in old.damage if damage.start < cut.position],
        edition=old.edition, newest_ms=old.newest_ms, topics=old.topics,
    )  # fmt: skip
    replace_file(index_path(segment.path), index.encode())
    return Segment(segment.path, index)


def _forget_index(segment: Segment) -> None:
    """From now on a crash leaves a segment of which nothing is known that is no longer so."""
    index_path(segment.path).unlink(missing_ok=True)
    fsync_directory(segment.path.parent)


def _place_of(segment: Segment, number: int) -> Mark:
    """Where the record with this number begins; where what cannot be read begins, if the number may be in there."""
    index = segment.index
    last, gap = index.before_number(number), False
    with segment.path.open("rb", buffering=0) as file:
        window = Window(file.fileno(), index.end.position)
        for step in scan(window, last.position, seed=ledger_seed(index.ledger), after=last.number - 1, payload=False):
            if isinstance(step, Gap):
                gap = True
            elif step.record.number >= number:
                here = Mark(step.record.first_offset, step.record.number, step.position)
                return here if here.number == number or not gap else last
            else:
                last, gap = Mark(step.record.next_offset, step.record.number + 1, step.end), False
    return last
