"""Segment indexes: where in a segment an offset is, where it ends, and what is known to be damaged in it.

A segment being written has its index in memory; sealing writes it beside the segment (``.idx``), so that a later open
needs no scan. An index holds nothing the segment does not say itself: a lost or bad one is built again.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import msgspec

from fedbus.broker.record import Kind, Record
from fedbus.storage.segment import SegmentHeader
from fedbus.storage.topics_listed import listed

INDEX_SUFFIX = ".idx"
INDEX_FORMAT_VERSION = 2  # 2: topics and newest_ms
MARK_EVERY_BYTES = 256 * 1024  # a read scans at most this much (and one record) before the offset it wants
_INDEX_MAGIC = b"FEDBUSIX"
_PREFIX = struct.Struct("<8sHHI")  # magic, format version, reserved, CRC-32C of both and of the body | body
_CHECKED = struct.Struct("<HH")


class Mark(NamedTuple):
    """A place between two records: the next event's offset, the next record's number, and the byte position."""

    offset: int
    number: int
    position: int


class Damage(msgspec.Struct, frozen=True, array_like=True):
    """Bytes ``[start, end)`` of a segment file that hold no valid record although they should.

    Missing are record numbers ``[first_number, end_number)`` and with them offsets ``[first_offset, end_offset)``,
    which is empty if no events were in there. Where a closed ledger's very end is damaged, what is missing is not
    known and both are empty.
    """

    segment: str
    start: int
    end: int
    first_number: int
    end_number: int
    first_offset: int
    end_offset: int


class _Topics(msgspec.Struct, array_like=True):
    """The first column of a batch index; the others are not decoded."""

    topics: list[str]


_topics_decoder = msgspec.msgpack.Decoder(_Topics)


def _number_of(mark: Mark) -> int:
    return mark.number


class SegmentIndex(msgspec.Struct):
    """The index of one segment. ``end`` is published last and in one assignment: below it other threads may read."""

    ledger: str
    first_number: int
    first_offset: int
    first_position: int  # where the first record begins: behind the header
    end: Mark
    marks: list[Mark]
    snapshots: list[int]  # byte positions of SNAPSHOT records
    damage: list[Damage] = []
    edition: int = 1  # that of the segment's header: the index of a file that was replaced since does not count
    newest_ms: int = 0  # time of the newest EVENTS record, 0 if there is none
    topics: set[str] | None = msgspec.field(default_factory=set)  # see topics_listed

    @classmethod
    def empty(cls, header: SegmentHeader, first_position: int) -> SegmentIndex:
        """The index of a segment in which there is nothing but its header."""
        end = Mark(header.first_offset, header.first_number, first_position)
        first = (header.first_number, header.first_offset, first_position)
        return cls(header.ledger, *first, end, [], [], edition=header.edition)

    def add(self, record: Record, position: int, end: int) -> None:
        """Note a record that is on disk in bytes ``[position, end)``."""
        if not self.marks or position - self.marks[-1].position >= MARK_EVERY_BYTES:
            self.marks.append(Mark(record.first_offset, record.number, position))
        if record.kind is Kind.EVENTS:
            self.newest_ms = max(self.newest_ms, record.time_ms)
            self._add_topics(record)
        elif record.kind is Kind.SNAPSHOT:
            self.snapshots.append(position)
        self.end = Mark(record.next_offset, record.number + 1, end)

    def _add_topics(self, record: Record) -> None:
        if self.topics is None:
            return
        try:
            topics = _topics_decoder.decode(record.index).topics
        except (msgspec.MsgspecError, UnicodeDecodeError):  # not for us to judge: then nothing is known
            self.topics = None
            return
        if not self.topics.issuperset(topics):
            self.topics = listed(self.topics.union(topics))

    def before_number(self, number: int) -> Mark:
        """The last mark from which a scan forward meets the record with this number."""
        at = bisect_right(self.marks, number, key=_number_of)
        return self.marks[at - 1] if at else Mark(self.first_offset, self.first_number, self.first_position)

    def before(self, offset: int) -> Mark:
        """The last mark from which a scan forward meets the event with this offset."""
        at = bisect_right(self.marks, (offset, self.end.number, self.end.position))
        return self.marks[at - 1] if at else Mark(self.first_offset, self.first_number, self.first_position)

    def report(self, damage: Damage) -> bool:
        """Note damage; whether nobody knew of it."""
        new = all(known.start != damage.start for known in self.damage)
        if new:
            self.damage.append(damage)
        return new

    def encode(self) -> bytes:
        """The bytes of an ``.idx`` file."""
        body = msgspec.msgpack.encode(self)
        crc = google_crc32c.value(_CHECKED.pack(INDEX_FORMAT_VERSION, 0) + body)
        return _PREFIX.pack(_INDEX_MAGIC, INDEX_FORMAT_VERSION, 0, crc) + body


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment file and its index."""

    path: Path
    index: SegmentIndex


def index_path(segment: Path) -> Path:
    """Where the index of a segment file lives."""
    return segment.with_suffix(INDEX_SUFFIX)


_decoder = msgspec.msgpack.Decoder(SegmentIndex)


def decode_index(data: bytes) -> SegmentIndex | None:
    """An index read back; ``None`` if it is no whole one of this version: then the segment has to be scanned."""
    if len(data) < _PREFIX.size:
        return None
    magic, version, reserved, crc = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size :]
    if magic != _INDEX_MAGIC or google_crc32c.value(_CHECKED.pack(version, reserved) + body) != crc:
        return None
    return _decoder.decode(body) if version == INDEX_FORMAT_VERSION else None
