"""A stored batch: a confirmed EVENTS record with its decoded index, seen by origin positions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from fedbus.batch import Batch
from fedbus.broker.protocol import POSSIBLE_DUPLICATE
from fedbus.broker.record import STAYS, Origin, Record
from fedbus.ranges import Range


def as_ranges(offsets: Iterable[int]) -> list[Range]:
    """Ascending integers as half-open ranges."""
    found: list[Range] = []
    start = end = -1
    for offset in offsets:
        if offset == end:
            end += 1
            continue
        if end > start:
            found.append((start, end))
        start, end = offset, offset + 1
    if end > start:
        found.append((start, end))
    return found


class Stored:
    """A batch in one of this instance's ledgers. A *place* is an event's index in the batch.

    ``size_bytes``: what it takes in memory at most (a compressed one that is sliced is kept decompressed too).
    ``flags``: those of its deliveries. ``stays``: it is never offered to other regions.
    """

    __slots__ = (
        "_offsets",
        "batch",
        "first_offset",
        "flags",
        "ledger",
        "next_offset",
        "origin",
        "size_bytes",
        "stays",
        "time_ms",
    )

    def __init__(self, ledger: str, record: Record) -> None:
        self.ledger = ledger
        self.first_offset = record.first_offset
        self.next_offset = record.next_offset
        self.time_ms = record.time_ms
        self.batch = Batch.decode(record.index, record.payload)
        self.size_bytes = record.size_bytes + (self.batch.plain_bytes if self.batch.index.codec else 0)
        meta = record.events_meta()
        self.origin: Origin | None = meta.origin
        self.flags = meta.flags & POSSIBLE_DUPLICATE
        self.stays = bool(meta.flags & STAYS)
        self._offsets: Sequence[int] | None = None

    @property
    def origin_ledger(self) -> str:
        """The ledger its events were born in."""
        return self.origin.ledger if self.origin is not None else self.ledger

    @property
    def scanned_from(self) -> int:
        """First origin offset this batch answers for (a linked batch answers for a wider span than its events)."""
        return self.origin.scanned_from if self.origin is not None else self.first_offset

    @property
    def scanned_to(self) -> int:
        """One past the last origin offset this batch answers for."""
        return self.origin.scanned_to if self.origin is not None else self.next_offset

    @property
    def offsets(self) -> Sequence[int]:
        """The origin offset of each place."""
        if self._offsets is None:
            if self.origin is None:
                self._offsets = range(self.first_offset, self.next_offset)
            else:
                self._offsets = [offset for start, end in self.origin.ranges for offset in range(start, end)]
        return self._offsets

    @property
    def low_keys(self) -> list[int]:
        """The lower 16 bits of each place's key hash."""
        halves = memoryview(self.batch.keys).cast("B").cast("H")
        return halves[0 if sys.byteorder == "little" else 1 :: 2].tolist()

    def ranges(self, places: Sequence[int]) -> list[Range]:
        """Origin offsets of ascending places, as ranges."""
        if len(places) == self.batch.count:
            return [(self.first_offset, self.next_offset)] if self.origin is None else self.origin.ranges
        offsets = self.offsets
        return as_ranges(offsets[place] for place in places)

    def places(self, ranges: Iterable[Range]) -> list[int]:
        """The places whose origin offsets lie in the ranges."""
        if self.origin is None:
            first, last = self.first_offset, self.next_offset
            return [o - first for start, end in ranges for o in range(max(start, first), min(end, last))]
        wanted = list(ranges)
        return [place for place, offset in enumerate(self.offsets) if any(s <= offset < e for s, e in wanted)]
