"""Segment files: their names, their header, and a scan that proves what is in them.

A ledger is a directory of segments named after their first record's number. A segment is a header and then records,
one after the other. A scan believes nothing it has not proven: a record counts if its checksum holds and its number is
above the last one's; where none is, it looks for the next one, so that damage never takes good records with it. What a
gap *means* (torn tail or damage) is for :mod:`fedbus.storage.recovery` to say.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import msgspec

from fedbus.broker.record import HEADER_BYTES, MAGIC, Record, RecordHead, checked_parts, read_head, read_record
from fedbus.errors import StorageError

SEGMENT_SUFFIX = ".seg"
_NAME_DIGITS = 20
SEGMENT_FORMAT_VERSION = 1
_SEGMENT_MAGIC = b"FEDBUSEG"
# magic, format version, body length, CRC-32C of both and of the body | body. This prefix is the same in every version.
_PREFIX = struct.Struct("<8sHHI")
_CHECKED = struct.Struct("<HH")
MAX_HEADER_BYTES = 4096
CHUNK_BYTES = 1 << 20
# A record that claims to be larger than this is proven chunk by chunk before memory is given to it.
_PROVE_AT_ONCE_BYTES = 8 << 20
_SECTOR_BYTES = 4096
_RECORD_MAGIC = MAGIC.to_bytes(4, "little")


class SegmentHeader(msgspec.Struct, frozen=True, array_like=True):
    """What a segment says about itself; ``created_ms`` is Unix time, ``edition`` grows each time it is repaired."""

    ledger: str
    first_number: int
    first_offset: int
    created_ms: int
    edition: int = 1

    def encode(self) -> bytes:
        """The bytes a segment begins with."""
        body = msgspec.msgpack.encode(self)
        crc = google_crc32c.value(_CHECKED.pack(SEGMENT_FORMAT_VERSION, len(body)) + body)
        return _PREFIX.pack(_SEGMENT_MAGIC, SEGMENT_FORMAT_VERSION, len(body), crc) + body


_header_decoder = msgspec.msgpack.Decoder(SegmentHeader)


def decode_header(data: bytes, path: Path) -> tuple[SegmentHeader, int] | None:
    """The header and its size in bytes, or ``None`` where there is no whole one.

    Raises :class:`StorageError` if it is whole and of a format version this software does not know.
    """
    if len(data) < _PREFIX.size:
        return None
    magic, version, length, crc = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size : _PREFIX.size + length]
    if magic != _SEGMENT_MAGIC or google_crc32c.value(_CHECKED.pack(version, length) + body) != crc:
        return None
    if version != SEGMENT_FORMAT_VERSION:
        raise StorageError(
            f"{path} has segment format version {version}; this software reads version {SEGMENT_FORMAT_VERSION}. "
            "Nothing was changed: start the version of fedbus that wrote it, or a newer one."
        )
    return _header_decoder.decode(body), _PREFIX.size + length


def segment_path(directory: Path, first_number: int) -> Path:
    """Where the segment that begins with this record number lives."""
    return directory / f"{first_number:0{_NAME_DIGITS}d}{SEGMENT_SUFFIX}"


def segment_paths(directory: Path) -> list[Path]:
    """A ledger's segment files in order; other files are left alone."""
    return sorted(
        path
        for path in directory.glob(f"*{SEGMENT_SUFFIX}")
        if path.stem.isdecimal() and len(path.stem) == _NAME_DIGITS
    )


def first_number_of(path: Path) -> int:
    """The number of a segment's first record, from its name."""
    return int(path.stem)


class Window:
    """A file up to byte ``end``, seen through one buffer of bounded size.

    ``lenient``: sectors the disk cannot read are taken for damage (zeros) and not for an error: right for serving
    readers, wrong for recovery, which would cut what another attempt may still read.
    """

    __slots__ = ("_base", "_chunk_bytes", "_data", "_fd", "_lenient", "end")

    def __init__(self, fd: int, end: int, *, chunk_bytes: int = CHUNK_BYTES, lenient: bool = False) -> None:
        self.end = end
        self._fd = fd
        self._chunk_bytes = chunk_bytes
        self._lenient = lenient
        self._base = 0
        self._data = b""

    def at(self, position: int, size: int) -> tuple[bytes, int]:
        """Bytes, and the index in them where those from ``position`` on begin: ``size`` of them, fewer at the end."""
        index = position - self._base
        if not 0 <= index <= index + size <= len(self._data):
            want = max(min(max(size, self._chunk_bytes), self.end - position), 0)
            self._data = self._pread(want, position)
            self._base = position
            index = 0
        return self._data, index

    def _pread(self, size: int, position: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            try:
                part = os.pread(self._fd, size, position)
            except OSError:
                if not self._lenient:
                    raise
                part = self._pread_sectors(size, position)
            if not part:
                break
            parts.append(part)
            size -= len(part)
            position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pread_sectors(self, size: int, position: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            step = min(size, _SECTOR_BYTES - position % _SECTOR_BYTES)
            try:
                part = os.pread(self._fd, step, position)
            except OSError:
                part = bytes(step)
            parts.append(part)
            if len(part) < step:
                break
            size -= step
            position += step
        return b"".join(parts)


class Whole(NamedTuple):
    """A proven record in bytes ``[position, end)``."""

    position: int
    end: int
    record: Record


class Gap(NamedTuple):
    """Bytes ``[position, end)`` in which there is no record; if ``end`` is the window's, nothing good comes behind."""

    position: int
    end: int


def scan(window: Window, position: int, *, seed: int, after: int = -1, payload: bool = True) -> Iterator[Whole | Gap]:
    """What is in the window from ``position`` on, in order: proven records above number ``after``, and gaps.

    ``payload=False`` leaves out the payload of EVENTS. Raises :class:`OSError` where the disk cannot be read.
    """
    while position < window.end:
        whole = prove(window, position, seed=seed, after=after, payload=payload)
        if whole is not None:
            yield whole
            position, after = whole.end, whole.record.number
        else:
            found = _next_whole(window, position, seed=seed, after=after)
            yield Gap(position, found)
            position = found


def prove(window: Window, position: int, *, seed: int, after: int = -1, payload: bool = True) -> Whole | None:
    """The record at ``position`` if it is whole, its checksum holds and its number is above ``after``."""
    data, at = window.at(position, HEADER_BYTES)
    head = read_head(data, at)
    if head is None or head.number <= after:
        return None
    size = head.size_bytes
    if position + size > window.end:
        return None
    if size > _PROVE_AT_ONCE_BYTES and not _proven_in_chunks(window, position, head, seed):
        return None
    data, at = window.at(position, size)
    record = read_record(data, at, payload=payload, seed=seed, head=head)
    return None if record is None else Whole(position, position + size, record)


def _proven_in_chunks(window: Window, position: int, head: RecordHead, seed: int) -> bool:
    data, at = window.at(position, HEADER_BYTES)
    prefix, rest = checked_parts(data[at : at + HEADER_BYTES])
    crc = google_crc32c.extend(google_crc32c.extend(seed, prefix), rest)
    done, end = position + HEADER_BYTES, position + head.size_bytes
    while done < end:
        step = min(CHUNK_BYTES, end - done)
        data, at = window.at(done, step)
        crc = google_crc32c.extend(crc, data[at : at + step])
        done += step
    return bool(crc == head.crc)


def _next_whole(window: Window, position: int, *, seed: int, after: int) -> int:
    """Where the next proven record begins behind the bad byte range that starts at ``position``; the end if nowhere."""
    data, at = window.at(position, HEADER_BYTES)
    head = read_head(data, at)
    if head is not None:  # a damaged body under a good header: the next record is where this one says it ends
        behind = position + head.size_bytes
        whole = prove(window, behind, seed=seed, after=after, payload=False) if behind < window.end else None
        if whole is not None and whole.record.number == head.number + 1:
            return behind
    position += 1
    while position < window.end:
        data, at = window.at(position, len(_RECORD_MAGIC))
        left = len(data) - at
        if left < len(_RECORD_MAGIC):
            break
        hit = data.find(_RECORD_MAGIC, at)
        if hit < 0:
            position += left - (len(_RECORD_MAGIC) - 1)
            continue
        position += hit - at
        if prove(window, position, seed=seed, after=after, payload=False) is not None:
            return position
        position += 1
    return window.end
