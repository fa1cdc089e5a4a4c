"""Records: the unit in which a ledger is written, replicated, checked and read back.

A ledger is a sequence of records numbered from 0 without gaps; records of kind EVENTS also take ``count`` consecutive
offsets. Layout: a 60-byte little-endian header, then meta, index and payload. The CRC-32C covers everything behind
itself, so that a torn or damaged record never passes for a whole one; the magic lets a scanner find the next good
record. The checksum starts from a ``seed`` that belongs to the ledger: bytes of another ledger (a stale block, an event
whose body is a ledger file) then never pass for this one's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import google_crc32c
import msgspec

from fedbus.batch import Buffer
from fedbus.broker.protocol import Tried
from fedbus.ranges import Range

MAGIC = 0x5CB5FED1
FORMAT_VERSION = 1
# magic u32, version u8, kind u8, reserved u16, crc u32 | body length u32, number u64, first_offset u64, count u32,
# meta length u32, index length u32, time_ms u64, confirmed u64
_PREFIX = struct.Struct("<IBBHI")
_REST = struct.Struct("<IQQIIIQQ")
HEADER_BYTES = _PREFIX.size + _REST.size


class Kind(IntEnum):
    """What a record holds."""

    EVENTS = 1  # a batch; meta = EventsMeta
    SETTLED = 2  # acknowledgements of groups; payload = msgpack list[GroupSettled]
    SNAPSHOT = 3  # the folded state at the start of a segment; payload = msgpack Snapshot
    GROUP = 4  # a group was created, changed or deleted; payload = msgpack GroupRecord
    SCANNED = 5  # how far links have scanned without matching events; payload = msgpack list[LinkScanned]
    EXPIRED = 6  # events that groups lost to retention; payload = msgpack list[GroupExpired]
    REJECTED = 7  # tries of batches that must not be stored here any more; payload = msgpack list[Try]
    RESOLVED = 8  # what became of withheld batches; payload = msgpack list[Resolved]
    GEO_DURABLE = 9  # batches that a second region has too; payload = msgpack list[Settled]


_LAST_KIND = max(Kind)


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Where linked events were born: their origin ledger and their offsets there (one per event, as ranges).

    ``[scanned_from, scanned_to)`` is the stretch of the origin ledger for which this record answers; for each filter of
    the link (named as a span, ``link_spans.py``) it does so from ``since`` on (what that filter takes before was
    forwarded earlier).
    """

    ledger: str
    ranges: list[Range]
    scanned_from: int
    scanned_to: int
    since: dict[str, int] = {}


class EventsMeta(msgspec.Struct, frozen=True, array_like=True):
    """Meta of an EVENTS record: who produced the batch (empty for links) and, for linked events, the origin.

    ``tried``, ``attempt``: as in ``Publish``. ``flags``: :data:`POSSIBLE_DUPLICATE`, :data:`WITHHELD`,
    :data:`SECOND_REGION`.
    """

    producer: str = ""
    sequence: int = 0
    origin: Origin | None = None
    attempt: int = 0
    tried: list[Tried] = []
    flags: int = 0


WITHHELD = 2  # a flag: hidden from the time it is stored until a RESOLVED record
STAYS = 8  # a flag: never offered to other regions (dead letters of what is pinned)
SECOND_REGION = 4  # a flag: hidden until a second region has it too (``broker/geo_batches.py``)


class Record:
    """One record; the buffers are kept as they came and never copied.

    ``confirmed``: how many records (numbers below it) were known to be confirmed when this one was written.
    """

    __slots__ = ("_head", "confirmed", "count", "first_offset", "index", "kind", "meta", "number", "payload", "time_ms")

    def __init__(  # noqa: PLR0913 - the fields of the format
        self,
        kind: Kind,
        number: int,
        first_offset: int,
        count: int,
        time_ms: int,
        *,
        confirmed: int = 0,
        meta: Buffer = b"",
        index: Buffer = b"",
        payload: Buffer = b"",
    ) -> None:
        self.kind = kind
        self.number = number
        self.first_offset = first_offset
        self.count = count
        self.time_ms = time_ms
        self.confirmed = confirmed
        self.meta = meta
        self.index = index
        self.payload = payload
        self._head = b""

    @property
    def next_offset(self) -> int:
        """The offset after this record's last event."""
        return self.first_offset + self.count

    @property
    def size_bytes(self) -> int:
        """Its size on disk."""
        return HEADER_BYTES + len(self.meta) + len(self.index) + len(self.payload)

    def events_meta(self) -> EventsMeta:
        """The decoded meta of an EVENTS record."""
        return _decode_meta(self.meta)

    def buffers(self, seed: int = 0) -> list[Buffer]:
        """What goes to disk (or to another holder), in order; ``seed`` is that of the ledger (:func:`ledger_seed`).

        The checksum is computed once: a record that came from another holder goes to disk under its writer's.
        """
        head = self._head
        if not head:
            body = len(self.meta) + len(self.index) + len(self.payload)
            sizes = (len(self.meta), len(self.index))
            rest = _REST.pack(body, self.number, self.first_offset, self.count, *sizes, self.time_ms, self.confirmed)
            head = self._head = _PREFIX.pack(MAGIC, FORMAT_VERSION, self.kind, 0, self._checksum(rest, seed)) + rest
        return [head, self.meta, self.index, self.payload]

    @classmethod
    def proven(cls, frames: Sequence[Buffer], seed: int) -> Record | None:
        """The record that came as :meth:`buffers`, or ``None`` if it is not what its writer made."""
        head_bytes, meta, index, payload = frames
        head = read_head(head_bytes)
        if head is None or len(head_bytes) != HEADER_BYTES:
            return None
        if (head.meta_bytes, head.index_bytes, head.body_bytes) != (
            len(meta), len(index), len(meta) + len(index) + len(payload),
        ):  # fmt: skip
            return None
        record = cls(
            Kind(head.kind), head.number, head.first_offset, head.count, head.time_ms,
            confirmed=head.confirmed, meta=meta, index=index, payload=payload,
        )  # fmt: skip
        if record._checksum(bytes(head_bytes[_PREFIX.size :]), seed) != head.crc:
            return None
        record.keep_head(head_bytes)
        return record

    def keep_head(self, head: Buffer) -> None:
        """Go to disk, or elsewhere, under this header, with which the record was proven."""
        self._head = bytes(head)

    def _checksum(self, rest: bytes, seed: int) -> int:
        crc = google_crc32c.extend(seed, bytes((FORMAT_VERSION, self.kind, 0, 0)) + rest)
        for part in (self.meta, self.index, self.payload):
            if part:  # the library takes nothing but bytes: a frame's memoryview costs one pass of memcpy here
                crc = google_crc32c.extend(crc, bytes(part) if isinstance(part, memoryview) else part)
        return int(crc)

    def __repr__(self) -> str:
        offsets = f"offsets {self.first_offset}+{self.count}"
        return f"Record({self.kind.name}, #{self.number}, {offsets}, {self.size_bytes} bytes)"


class RecordHead(msgspec.Struct, frozen=True):
    """A header read back; ``body_bytes`` follow it. Nothing here is to be believed before the checksum was checked."""

    kind: int
    crc: int
    body_bytes: int
    number: int
    first_offset: int
    count: int
    meta_bytes: int
    index_bytes: int
    time_ms: int
    confirmed: int

    @property
    def size_bytes(self) -> int:
        """The size on disk that this header claims."""
        return HEADER_BYTES + self.body_bytes


def ledger_seed(ledger: str) -> int:
    """Where the checksums of a ledger's records start: derived from its name, so that it cannot get lost."""
    return int(google_crc32c.value(ledger.encode()))


def read_head(data: Buffer, at: int = 0) -> RecordHead | None:
    """The header at ``data[at:]``, or ``None`` where there is none (too short, no magic, unknown version or kind)."""
    if len(data) - at < HEADER_BYTES:
        return None
    magic, version, kind, _reserved, crc = _PREFIX.unpack_from(data, at)
    if magic != MAGIC or version != FORMAT_VERSION or not Kind.EVENTS <= kind <= _LAST_KIND:
        return None
    body, number, first, count, meta, index, time_ms, confirmed = _REST.unpack_from(data, at + _PREFIX.size)
    if meta + index > body:
        return None
    return RecordHead(kind, crc, body, number, first, count, meta, index, time_ms, confirmed)


def checked_parts(head_bytes: Buffer) -> tuple[bytes, bytes]:
    """Of a header's bytes, the two stretches over which the checksum runs before it goes on over the body."""
    return bytes(head_bytes[_PREFIX.size - 8 : _PREFIX.size - 4]), bytes(head_bytes[_PREFIX.size : HEADER_BYTES])


def read_record(
    data: Buffer, at: int = 0, *, payload: bool = True, seed: int = 0, head: RecordHead | None = None
) -> Record | None:
    """The whole, checksum-proven record at ``data[at:]``, or ``None``.

    With ``payload=False`` the payload of EVENTS is checked but not kept (recovery folds state, not events). ``head`` is
    what :func:`read_head` said about the same place, if it was asked before.
    """
    head = head or read_head(data, at)
    if head is None or len(data) - at < head.size_bytes:
        return None
    checked = bytes(data[at + _PREFIX.size : at + head.size_bytes])
    crc = google_crc32c.extend(seed, bytes(data[at + _PREFIX.size - 8 : at + _PREFIX.size - 4]))
    if google_crc32c.extend(crc, checked) != head.crc:
        return None
    meta_end = _REST.size + head.meta_bytes
    index_end = meta_end + head.index_bytes
    keep = payload or head.kind != Kind.EVENTS
    record = Record(
        Kind(head.kind), head.number, head.first_offset, head.count, head.time_ms,
        confirmed=head.confirmed, meta=checked[_REST.size : meta_end],
        index=checked[meta_end:index_end], payload=checked[index_end:] if keep else b"",
    )  # fmt: skip
    if keep:
        record.keep_head(data[at : at + HEADER_BYTES])
    return record


_meta_decoder = msgspec.msgpack.Decoder(EventsMeta)
_encode: Any = msgspec.msgpack.Encoder().encode
_NO_META = EventsMeta()


def _decode_meta(meta: Buffer) -> EventsMeta:
    return _meta_decoder.decode(meta) if meta else _NO_META


def encode_body(value: Any) -> bytes:
    """MessagePack of a record's meta or of a state record's payload."""
    encoded: bytes = _encode(value)
    return encoded
