"""Repair of a sealed segment: a new file with sound records in the place of damaged ones, put under the old name.

Whoever looks sees the old file or the new one, also after a crash: the new one is complete and read back before it is
renamed, and its header's ``edition`` tells its index from the old one's. The damaged file stays in ``quarantine/``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import msgspec

from fedbus.broker.record import Record, ledger_seed
from fedbus.storage.durable import PART_SUFFIX, fsync_directory, replace_file
from fedbus.storage.held_ledger import HeldLedger
from fedbus.storage.quarantine import keep_copy
from fedbus.storage.segment import Gap, SegmentHeader, Window, scan
from fedbus.storage.segment_index import Mark, Segment, SegmentIndex, index_path
from fedbus.storage.survey import missing, survey

_COPY_BYTES = 1 << 20


def repair(held: HeldLedger, records: Sequence[Record]) -> None:
    """Put sound records in the place of damaged ones in sealed segments, and renew damaged headers.

    A record that does not fit between what is good on both sides is left out. Raises :class:`OSError`.
    """
    sound = {record.number: record for record in records}
    with held.changing:
        for segment in held.sealed:
            damage = segment.index.damage
            if any(d.start == 0 or any(d.first_number <= n < d.end_number for n in sound) for d in damage):
                repaired = _Repair(segment, sound, held.disk.now_ms())
                new = repaired.write()
                with held.disk.reader.changing([segment.path]):
                    repaired.put_in_place(new.index)
                    with held.swapping:
                        for run in held.runs:
                            run.replace(segment, new)


class _Repair:
    """One segment being rewritten with what is sound of ``records`` (by number)."""

    def __init__(self, segment: Segment, records: Mapping[int, Record], now_ms: int) -> None:
        self._segment = segment
        self._records = records
        index = segment.index
        self._seed = ledger_seed(index.ledger)
        self._header = SegmentHeader(
            index.ledger, index.first_number, index.first_offset, now_ms, edition=index.edition + 1
        )
        self._part = segment.path.with_name(segment.path.name + PART_SUFFIX)

    def write(self) -> Segment:
        """Write the new file and read it back; not in its place yet. Raises :class:`OSError`."""
        encoded = self._header.encode()
        index = self._segment.index
        with self._segment.path.open("rb", buffering=0) as old, self._part.open("wb", buffering=_COPY_BYTES) as new:
            new.write(encoded)
            window = Window(old.fileno(), index.end.position, lenient=True)
            last = Mark(index.first_offset, index.first_number, index.first_position)
            for step in scan(window, index.first_position, seed=self._seed, after=index.first_number - 1):
                if isinstance(step, Gap):
                    continue
                here = Mark(step.record.first_offset, step.record.number, step.position)
                self._fill(old, new, last, here)
                _copy(old, new, step.position, step.end)
                last = Mark(step.record.next_offset, step.record.number + 1, step.end)
            self._fill(old, new, last, index.end)
            new.flush()
            os.fsync(new.fileno())
        return self._read_back(encoded)

    def _fill(self, old: BinaryIO, new: BinaryIO, last: Mark, following: Mark) -> None:
        """What belongs between two good places: sound records; the bytes as they were where there is none."""
        offset, kept = last.offset, False
        for number in range(last.number, following.number):
            record = self._records.get(number)
            if record is not None and offset <= record.first_offset <= record.next_offset <= following.offset:
                new.writelines(record.buffers(self._seed))
                offset = record.next_offset
            elif not kept:
                _copy(old, new, last.position, following.position)
                kept = True

    def _read_back(self, encoded: bytes) -> Segment:
        old = self._segment.index
        index = survey(self._part, old.ledger, (self._header, len(encoded)), Mark(0, 0, 0))
        if index.end.number < old.end.number:
            size = self._part.stat().st_size
            index.report(missing(self._segment.path, index.end, size, old.end))
            index.end = Mark(old.end.offset, old.end.number, size)
        index.damage = [msgspec.structs.replace(damage, segment=self._segment.path.name) for damage in index.damage]
        return Segment(self._segment.path, index)

    def put_in_place(self, index: SegmentIndex) -> None:
        """Keep the damaged file in quarantine and give its name to the new one, durably. Raises :class:`OSError`."""
        path = self._segment.path
        keep_copy(path)
        self._part.rename(path)
        fsync_directory(path.parent)
        replace_file(index_path(path), index.encode())


def _copy(old: BinaryIO, new: BinaryIO, start: int, end: int) -> None:
    while start < end:
        part = os.pread(old.fileno(), min(_COPY_BYTES, end - start), start)
        if not part:
            return
        new.write(part)
        start += len(part)
