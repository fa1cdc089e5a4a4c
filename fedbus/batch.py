"""Batches: what producers send, brokers store and subscribers receive.

A batch is two byte strings: an *index* (for each event its topic, key hash and end in the payload, as columns, so that
whole batches are routed without touching events) and the *payload* (the events' bytes, one after the other). Event
bytes are never re-encoded on the way; a batch may be sliced by its index.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence

import msgspec

from fedbus.errors import ProtocolError
from fedbus.topic import is_topic

Buffer = bytes | memoryview


class BatchIndex(msgspec.Struct, frozen=True, array_like=True):
    """Columns over the events of a batch; little-endian arrays travel as bytes and cost nothing to decode.

    ``topics``: the distinct topics. ``ends``: u32 per event, where its bytes end in the payload. ``topic_of``: u16 per
    event into ``topics``; empty if there is one topic. ``key_hashes``: u32 per event, 0 = no key; empty if none has a
    key. ``codec``: 0 = the payload is the events' bytes as they are (others are for later versions, and refused).
    """

    topics: list[str]
    ends: bytes
    topic_of: bytes = b""
    key_hashes: bytes = b""
    codec: int = 0


KNOWN_TOPICS = 65_536  # well-formed topics remembered by whoever checks batches

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(BatchIndex)


def _column(kind: str, data: Buffer) -> array[int]:
    column: array[int] = array(kind)
    column.frombytes(data)
    if sys.byteorder == "big":  # pragma: no cover - the wire is little-endian
        column.byteswap()
    return column


def _bytes(kind: str, values: Sequence[int]) -> bytes:
    column: array[int] = array(kind, values)
    if sys.byteorder == "big":  # pragma: no cover
        column.byteswap()
    return column.tobytes()


class Batch:
    """A decoded view of (index, payload); the columns are unpacked only when an event inside is looked at."""

    __slots__ = ("_ends", "_keys", "_topic_of", "count", "index", "index_bytes", "payload")

    def __init__(self, index: BatchIndex, index_bytes: Buffer, payload: Buffer) -> None:
        self.index = index
        self.index_bytes = index_bytes
        self.payload = payload
        self.count = len(index.ends) // 4
        self._ends: array[int] | None = None
        self._topic_of: array[int] | None = None
        self._keys: array[int] | None = None

    @classmethod
    def decode(cls, index_bytes: Buffer, payload: Buffer) -> Batch:
        """Read a batch that was checked before (by :meth:`checked`, or by a record's checksum)."""
        return cls(_decoder.decode(index_bytes), index_bytes, payload)

    @classmethod
    def checked(cls, index_bytes: Buffer, payload: Buffer, known_topics: set[str]) -> Batch:
        """Read a batch from a stranger: raises :class:`ProtocolError` unless every column is consistent.

        ``known_topics`` remembers topics already found well-formed (up to :data:`KNOWN_TOPICS`); new ones are added.
        """
        try:
            batch = cls(_decoder.decode(index_bytes), index_bytes, payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProtocolError(f"the batch index cannot be decoded: {error}") from None
        index, count = batch.index, batch.count
        if index.codec != 0:
            raise ProtocolError(f"codec {index.codec} is not one this version reads (only 0, uncompressed)")
        if count == 0 or len(index.ends) != count * 4 or not 1 <= len(index.topics) <= count:
            raise ProtocolError("a batch holds at least one event and one topic, and no topic without an event")
        ends = batch.ends
        if ends[-1] != len(payload) or array("I", sorted(ends)) != ends:
            raise ProtocolError(f"event ends do not add up to the payload of {len(payload)} bytes")
        if not _topics_fit(batch):
            raise ProtocolError("the topic column does not fit the events")
        if index.key_hashes and len(index.key_hashes) != count * 4:
            raise ProtocolError("the key column does not fit the events")
        for topic in index.topics:
            if topic not in known_topics:
                if not is_topic(topic):
                    raise ProtocolError(f"{topic[:80]!r} is not a topic")
                if len(known_topics) >= KNOWN_TOPICS:
                    known_topics.clear()
                known_topics.add(topic)
        return batch

    @property
    def ends(self) -> array[int]:
        """Per event, where its bytes end in the payload."""
        if self._ends is None:
            self._ends = _column("I", self.index.ends)
        return self._ends

    @property
    def topic_of(self) -> array[int]:
        """Per event, its topic's place in ``index.topics``."""
        if self._topic_of is None:
            self._topic_of = (
                _column("H", self.index.topic_of) if self.index.topic_of else array("H", bytes(2 * self.count))
            )
        return self._topic_of

    @property
    def keys(self) -> array[int]:
        """Per event, its key hash; 0 = no key."""
        if self._keys is None:
            self._keys = (
                _column("I", self.index.key_hashes) if self.index.key_hashes else array("I", bytes(4 * self.count))
            )
        return self._keys

    @property
    def keyed(self) -> bool:
        """Whether any event has a key."""
        return bool(self.index.key_hashes)

    @property
    def topics(self) -> list[str]:
        """The distinct topics."""
        return self.index.topics

    def events(self) -> Iterator[tuple[str, int, memoryview]]:
        """(topic, key hash, bytes) of each event in order."""
        view = memoryview(self.payload)
        topics, start = self.index.topics, 0
        for topic, key, end in zip(self.topic_of, self.keys, self.ends, strict=True):
            yield topics[topic], key, view[start:end]
            start = end

    def select(self, chosen: Sequence[int]) -> Batch:
        """The batch of only the chosen events (ascending places); itself if all are chosen."""
        if len(chosen) == self.count:
            return self
        ends, view = self.ends, memoryview(self.payload)
        parts: list[memoryview] = []
        new_ends: list[int] = []
        size = 0
        for place in chosen:
            start, end = ends[place - 1] if place else 0, ends[place]
            parts.append(view[start:end])
            size += end - start
            new_ends.append(size)
        used = sorted({self.topic_of[place] for place in chosen})
        renamed = {old: new for new, old in enumerate(used)}
        keys = [self.keys[place] for place in chosen] if self.keyed else []
        index = BatchIndex(
            topics=[self.index.topics[old] for old in used],
            ends=_bytes("I", new_ends),
            topic_of=_bytes("H", [renamed[self.topic_of[place]] for place in chosen]) if len(used) > 1 else b"",
            key_hashes=_bytes("I", keys) if any(keys) else b"",
        )
        return Batch(index, _encode(index), b"".join(parts))


def _topics_fit(batch: Batch) -> bool:
    column, topics = batch.index.topic_of, len(batch.index.topics)
    if not column:
        return topics == 1
    return len(column) == batch.count * 2 and max(batch.topic_of) < topics


class BatchBuilder:
    """Collects encoded events into one batch; bounded by whoever fills it."""

    __slots__ = ("_ends", "_keys", "_parts", "_topic_of", "_topics", "size_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._ends: list[int] = []
        self._topics: dict[str, int] = {}
        self._topic_of: list[int] = []
        self._keys: list[int] = []
        self.size_bytes = 0

    def add(self, topic: str, key_hash: int, event: bytes) -> None:
        """Append one event; ``key_hash`` 0 = no key."""
        self.size_bytes += len(event)
        self._parts.append(event)
        self._ends.append(self.size_bytes)
        self._topic_of.append(self._topics.setdefault(topic, len(self._topics)))
        self._keys.append(key_hash)

    def __len__(self) -> int:
        return len(self._parts)

    def build(self) -> Batch:
        """The batch of all events added so far."""
        index = BatchIndex(
            topics=list(self._topics),
            ends=_bytes("I", self._ends),
            topic_of=_bytes("H", self._topic_of) if len(self._topics) > 1 else b"",
            key_hashes=_bytes("I", self._keys) if any(self._keys) else b"",
        )
        return Batch(index, _encode(index), b"".join(self._parts))
