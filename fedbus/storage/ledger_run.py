"""A run: segments of one ledger that follow one another, and the writer at their end.

The ledger an instance writes is one run. A copy may have several, with something missing between them (what is being
appended at its end, what is being fetched from its beginning on). Used by one thread; ``segments``, ``end`` and what
lies below may be read by others, and repairs replace single segments under the lock ``swapping``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from threading import Lock

from fedbus.broker.record import Kind, Record
from fedbus.errors import StorageError
from fedbus.storage.durable import REFUSALS
from fedbus.storage.segment_index import Mark, Segment
from fedbus.storage.segment_writer import SegmentWriter


class LedgerRun:
    """Records from ``start`` on. ``new_segment`` opens a segment that begins at a mark."""

    def __init__(
        self,
        ledger: str,
        start: Mark,
        segments: Sequence[Segment],
        new_segment: Callable[[Mark], SegmentWriter],
        swapping: Lock,
    ) -> None:
        self.ledger = ledger
        self.start = start
        self.segments = tuple(segments)  # replaced, never changed: readers may hold on to it
        self.failure = ""
        self._new_segment = new_segment
        self._swapping = swapping
        self._writer: SegmentWriter | None = None

    @property
    def end(self) -> Mark:
        """The durable end."""
        return self.segments[-1].index.end if self.segments else self.start

    @property
    def next(self) -> Mark:
        """Behind what was appended, durable or not."""
        return self.end if self._writer is None else self._writer.end

    @property
    def writing(self) -> Segment | None:
        """The segment at the end that is not sealed."""
        return None if self._writer is None else self._writer.segment

    def begin(self) -> None:
        """Open the first segment. Raises :class:`OSError`."""
        self._writer = self._new_segment(self.end)
        self.segments = (*self.segments, self._writer.segment)

    def append(self, records: Sequence[Record]) -> None:
        """Write records behind the last ones; durable and visible to readers after :meth:`sync`.

        Raises :class:`StorageError` if the disk refuses (full): then everything since the last sync was taken back and
        the run can be appended to again, from its durable end. Raises :class:`OSError` if it fails: then no more
        may be written.
        """
        self._check()
        try:
            if self._writer is None:
                self._writer = self._new_segment(self.end)
            self._writer.append(records)
        except OSError as error:
            self._refused_or_failed(error)

    def append_rolling(self, records: Sequence[Record], roll_from_bytes: int) -> None:
        """As :meth:`append`, for a copy: a SNAPSHOT begins another segment once this one has that size."""
        start, size = 0, 0 if self._writer is None else self._writer.end.position
        for at, record in enumerate(records):
            if record.kind is Kind.SNAPSHOT and size >= roll_from_bytes:
                if at > start:
                    self.append(records[start:at])
                self.sync()
                self.roll()
                start, size = at, 0
            size += record.size_bytes
        self.append(records[start:] if start else records)

    def _refused_or_failed(self, error: OSError) -> None:
        if error.errno not in REFUSALS:
            self.failure = str(error)
            raise error
        if self._writer is not None:
            try:
                self._writer.roll_back()
            except OSError as second:
                self.failure = str(second)
                raise
        raise StorageError(
            f"the disk takes no more of ledger {self.ledger} ({os.strerror(error.errno or 0)}). Nothing of the batch "
            "was stored; writing resumes by itself when there is space."
        ) from error

    def sync(self) -> None:
        """Make all that was appended durable. An :class:`OSError` is final: nothing more may be written, ever."""
        self._check()
        if self._writer is None:
            return
        try:
            self._writer.sync()
        except OSError as error:
            self.failure = str(error)
            raise
        segment = self._writer.segment
        # Readers see it once something in it is durable.
        if segment.index.marks and (not self.segments or self.segments[-1] is not segment):
            with self._swapping:
                self.segments = (*self.segments, segment)

    def _check(self) -> None:
        if self.failure:
            raise OSError(errno.EIO, f"the ledger has failed before and takes no writes: {self.failure}")

    def roll(self) -> None:
        """Seal the segment being written (synced before); the next append opens another.

        Nothing if it is empty, or has failed: then the next open has to find out what is in it.
        """
        if self._writer is None or not self._writer.index.marks or self.failure:
            return
        self._writer.seal()
        self._writer = None

    def take_before(self, earlier: LedgerRun) -> None:
        """Continue an earlier run, which is closed and given up: from now on they are one."""
        self.start = earlier.start
        self.segments = (*earlier.segments, *self.segments)
        self.failure = self.failure or earlier.failure

    def replace(self, old: Segment, new: Segment) -> None:
        """A sealed segment was repaired."""
        self.segments = tuple(new if segment is old else segment for segment in self.segments)

    def close(self) -> None:
        """Close its file; a clean end seals, so that the next open has nothing to scan."""
        if self._writer is not None and self._writer.end == self._writer.index.end and not self.failure:
            self.roll()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def discard(self) -> None:
        """Give up a run in which nothing ever became durable, with its file."""
        assert not self.segments, "what is durable is not thrown away"
        if self._writer is not None:
            self._writer.close()
            self._writer.segment.path.unlink(missing_ok=True)
            self._writer = None
