"""Writing one segment: vectored appends, one fdatasync per group, and going back to what is durable.

Used by one thread. The segment's index, which readers in other threads look at, learns of records only once they are
durable. What is written by the hundreds of kilobytes leaves the page cache as soon as it is on the disk, where Linux
can (6.14): new events are handed out from memory, and a stream that nobody reads again would push out all else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fedbus.batch import Buffer
from fedbus.broker.record import Record, ledger_seed
from fedbus.storage.durable import fsync_directory, replace_file, write_all
from fedbus.storage.segment import SegmentHeader, segment_path
from fedbus.storage.segment_index import Mark, Segment, SegmentIndex, index_path

_IOV_MAX = os.sysconf("SC_IOV_MAX")
_RWF_DONTCACHE = 0x80 if sys.platform == "linux" else 0
UNCACHED_BYTES = 256 * 1024  # smaller writes stay: the next one would have to read its first page again


class SegmentWriter:
    """The segment at the end of a ledger. Errors are :class:`OSError`, for the caller to tell refusal from failure."""

    def __init__(self, directory: Path, header: SegmentHeader, fdatasync: Callable[[int], None]) -> None:
        """Create the segment file: durable, with its header, before anything is appended."""
        encoded = header.encode()
        path = segment_path(directory, header.first_number)
        self._fdatasync = fdatasync
        self._seed = ledger_seed(header.ledger)
        self._waiting: list[tuple[Record, int, int]] = []  # appended and not yet synced: record, position, end
        self._uncached = _RWF_DONTCACHE
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            write_all(self._fd, encoded, 0)
            os.fsync(self._fd)
            fsync_directory(directory)
        except OSError:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                path.unlink()  # there is no record in it
            raise
        self.segment = Segment(path, SegmentIndex.empty(header, len(encoded)))
        self.end = self.segment.index.end

    @property
    def index(self) -> SegmentIndex:
        """What is durable in this segment."""
        return self.segment.index

    def append(self, records: Sequence[Record]) -> None:
        """Write the records behind what was written before; they are durable after :meth:`sync`."""
        offset, number, position = self.end
        buffers: list[Buffer] = []
        for record in records:
            if record.number != number or record.first_offset != offset:
                raise AssertionError(f"{record!r} does not follow on record {number}, offset {offset}")
            buffers += record.buffers(self._seed)
            end = position + record.size_bytes
            self._waiting.append((record, position, end))
            offset, number, position = record.next_offset, number + 1, end
        self._write([buffer for buffer in buffers if len(buffer)], position - self.end.position)
        self.end = Mark(offset, number, position)

    def _write(self, buffers: list[Buffer], size_bytes: int) -> None:
        if self._uncached and size_bytes >= UNCACHED_BYTES:
            try:
                _write_vectored(self._fd, buffers, self.end.position, self._uncached)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self._uncached = 0  # this kernel or file system cannot: it said so before it wrote anything
            else:
                return
        _write_vectored(self._fd, buffers, self.end.position)

    def sync(self) -> None:
        """Make all that was appended durable, then visible to readers. An error is final: the pages may be gone."""
        if not self._waiting:
            return
        self._fdatasync(self._fd)
        for record, position, end in self._waiting:
            self.index.add(record, position, end)
        self._waiting.clear()

    def roll_back(self) -> None:
        """Take back, durably, whatever was appended since the last :meth:`sync`: it will never be found again."""
        self._waiting.clear()
        self.end = self.index.end
        os.ftruncate(self._fd, self.end.position)
        os.fsync(self._fd)

    def seal(self) -> None:
        """Nothing more comes: write the index file. Without room for it the next open builds it from a scan."""
        assert not self._waiting, "sealed before it was synced"
        with contextlib.suppress(OSError):
            replace_file(index_path(self.segment.path), self.index.encode())
        self.close()

    def close(self) -> None:
        """Close the file as it is."""
        os.close(self._fd)


def _write_vectored(fd: int, buffers: list[Buffer], position: int, flags: int = 0) -> None:
    at = 0
    while at < len(buffers):
        written = os.pwritev(fd, buffers[at : at + _IOV_MAX], position, flags)
        position += written
        while at < len(buffers) and written >= len(buffers[at]):
            written -= len(buffers[at])
            at += 1
        if written:
            buffers[at] = memoryview(buffers[at])[written:]
