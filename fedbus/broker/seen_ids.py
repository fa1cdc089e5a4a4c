"""Events seen: topics with a dedup window drop an event whose ``source`` and ``id`` they have had within the window.

Kept are 64-bit hashes of both, with the place of the first copy (that any two of a million events in a window collide
has a probability of 3·10⁻⁸). At most ``most`` are kept, of all topics together; beyond that the oldest go first, and
what comes again after it went is stored again. Rebuilt from snapshot and records.
"""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from fedbus.batch import Batch
from fedbus.broker.protocol import FirstCopy
from fedbus.broker.record import Record

Place = tuple[int, int, int]  # time_ms, place of the ledger's name, offset


class SeenTopic(msgspec.Struct, frozen=True, array_like=True):
    """One topic's part of a snapshot, oldest first: columns of hashes (u64), times (u64 ms), offsets (u64), ledgers."""

    topic: str
    hashes: bytes
    times_ms: bytes
    offsets: bytes
    ledgers: bytes


class SeenState(msgspec.Struct, frozen=True, array_like=True):
    """All topics; ``ledgers``: the names which the columns refer to by place (u32)."""

    ledgers: list[str] = []
    topics: list[SeenTopic] = []


class SeenIds:
    """All topics of an instance. ``window_ms``: of a topic, 0 = it takes everything. ``dropped``: events, so far."""

    def __init__(self, window_ms: Callable[[str], int], most: int) -> None:
        self.dropped = 0
        self._window_ms = window_ms
        self._most = most
        self._seen: OrderedDict[tuple[str, int], Place] = OrderedDict()  # oldest first
        self._ledgers: list[str] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def first_copies(self, batch: Batch, now_ms: int) -> tuple[list[FirstCopy], list[tuple[int, int]]]:
        """Of a batch the events that were seen before, and those (place, place of the first) that are in it twice."""
        windows = [self._window_ms(topic) for topic in batch.topics]
        copies: list[FirstCopy] = []
        twice: list[tuple[int, int]] = []
        if not any(windows):
            return copies, twice
        within: dict[tuple[str, int], int] = {}
        for place, (topic_at, hashed) in enumerate(zip(batch.topic_of, batch.ids, strict=True)):
            if not hashed or not windows[topic_at]:
                continue
            identity = (batch.topics[topic_at], hashed)
            seen = self._seen.get(identity)
            if seen is not None and now_ms - seen[0] <= windows[topic_at]:
                copies.append(FirstCopy(place, self._ledgers[seen[1]], seen[2]))
            elif identity in within:
                twice.append((place, within[identity]))
            else:
                within[identity] = place
        return copies, twice

    def stored(self, ledger: str, record: Record, batch: Batch | None = None) -> None:
        """Note the events of a stored batch (or of one found on recovery)."""
        batch = batch or Batch.decode(record.index, b"")
        if not batch.index.ids or record.events_meta().origin is not None:
            return
        at = self._place(ledger)
        for place, (topic_at, hashed) in enumerate(zip(batch.topic_of, batch.ids, strict=True)):
            if hashed:
                identity = (batch.topics[topic_at], hashed)
                self._seen[identity] = (record.time_ms, at, record.first_offset + place)
                self._seen.move_to_end(identity)
        self._bound(record.time_ms)

    def find(self, topic: str, hashed: int) -> tuple[str, int] | None:
        """Ledger and offset of the first copy of an event."""
        seen = self._seen.get((topic, hashed))
        return (self._ledgers[seen[1]], seen[2]) if seen is not None else None

    def _place(self, ledger: str) -> int:
        place = self._places.get(ledger)
        if place is None:
            place = self._places[ledger] = len(self._ledgers)
            self._ledgers.append(ledger)
        return place

    def _bound(self, now_ms: int) -> None:
        while self._seen:
            (topic, _), (time_ms, _, _) = oldest = next(iter(self._seen.items()))
            if len(self._seen) <= self._most and now_ms - time_ms <= self._window_ms(topic):
                return
            del self._seen[oldest[0]]

    def forget_from(self, ledger: str, offset: int) -> None:
        """Nothing from this offset on was stored."""
        place = self._place(ledger)
        for identity in [key for key, (_, at, first) in self._seen.items() if at == place and first >= offset]:
            del self._seen[identity]

    def state(self) -> SeenState:
        """Its part of a snapshot."""
        by_topic: dict[str, tuple[array[int], array[int], array[int], array[int]]] = {}
        for (topic, hashed), (time_ms, at, offset) in self._seen.items():
            columns = by_topic.setdefault(topic, (array("Q"), array("Q"), array("Q"), array("I")))
            for column, value in zip(columns, (hashed, time_ms, offset, at), strict=True):
                column.append(value)
        topics = [SeenTopic(topic, *(_to_bytes(column) for column in columns)) for topic, columns in by_topic.items()]
        return SeenState(list(self._ledgers), topics)

    def restore(self, state: SeenState) -> None:
        """Merge a snapshot's part in; the newest of two copies stays."""
        rows: list[tuple[int, str, int, int, int]] = []
        for part in state.topics:
            columns = (_column("Q", part.times_ms), _column("Q", part.hashes), _column("Q", part.offsets))
            rows += (
                (time_ms, part.topic, hashed, self._place(state.ledgers[at]), offset)
                for time_ms, hashed, offset, at in zip(*columns, _column("I", part.ledgers), strict=True)
            )
        known = ((time_ms, topic, hashed, at, offset) for (topic, hashed), (time_ms, at, offset) in self._seen.items())
        self._seen = OrderedDict(
            ((topic, hashed), (time_ms, at, offset)) for time_ms, topic, hashed, at, offset in sorted([*known, *rows])
        )
        if self._seen:
            while len(self._seen) > self._most:
                self._seen.popitem(last=False)


def _column(kind: str, data: bytes) -> array[int]:
    column: array[int] = array(kind)
    column.frombytes(data)
    if sys.byteorder == "big":  # pragma: no cover - what is written is little-endian
        column.byteswap()
    return column


def _to_bytes(column: array[int]) -> bytes:
    if sys.byteorder == "big":  # pragma: no cover
        column = array(column.typecode, column)
        column.byteswap()
    return column.tobytes()
