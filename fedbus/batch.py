"""Batches: what producers send, brokers store and subscribers receive.

A batch is two byte strings: an *index* (for each event its topic, key hash and end in the payload, as columns, so that
whole batches are routed without touching events) and the *payload* (the events' bytes, one after the other). Event
bytes are never re-encoded on the way; a batch may be sliced by its index. The payload may be compressed as a whole:
then the batch has one topic, so that filters take all of it or nothing. ``ends`` always refer to the plain bytes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import msgspec

from fedbus.compression import PLAIN, ZSTD, check_frame, compress, expand
from fedbus.errors import ProtocolError
from fedbus.topic import is_topic

Buffer = bytes | memoryview


class BatchIndex(msgspec.Struct, frozen=True, array_like=True):
    """Columns over the events of a batch; little-endian arrays travel as bytes and cost nothing to decode.

    ``topics``: the distinct topics. ``ends``: u32 per event, where its bytes end in the payload. ``topic_of``: u16 per
    event into ``topics``; empty if there is one topic. ``key_hashes``: u32 per event, 0 = no key; empty if none has a
    key. ``codec``: 0 = the payload is the events' bytes as they are, 1 = one zstd frame of them (others are for later
    versions, and refused). ``ids``: u64 per event, hash of ``source`` and ``id`` for topics that drop what they have
    seen, 0 = not to be compared; empty if no event is.
    """

    topics: list[str]
    ends: bytes
    topic_of: bytes = b""
    key_hashes: bytes = b""
    codec: int = PLAIN
    ids: bytes = b""


MAX_PLAIN_BYTES = 16 * 1024 * 1024  # of a compressed batch, whatever else the limits say
KNOWN_TOPICS = 65_536  # well-formed topics remembered by whoever checks batches

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(BatchIndex)


def _column(kind: str, data: Buffer) -> array[int]:
    column: array[int] = array(kind)
    column.frombytes(data)
    if sys.byteorder == "big":  # pragma: no cover - the wire is little-endian
        column.byteswap()
    return column


def _bytes(kind: str, values: Iterable[int]) -> bytes:
    column: array[int] = array(kind, values)
    if sys.byteorder == "big":  # pragma: no cover
        column.byteswap()
    return column.tobytes()


class Batch:
    """A decoded view of (index, payload); the columns are unpacked only when an event inside is looked at."""

    __slots__ = ("_ends", "_ids", "_keys", "_opened", "_topic_of", "count", "index", "index_bytes", "payload")

    def __init__(self, index: BatchIndex, index_bytes: Buffer, payload: Buffer) -> None:
        self.index = index
        self.index_bytes = index_bytes
        self.payload = payload
        self.count = len(index.ends) // 4
        self._ends: array[int] | None = None
        self._topic_of: array[int] | None = None
        self._keys: array[int] | None = None
        self._ids: array[int] | None = None
        self._opened: tuple[array[int], Buffer] | None = None  # ends and payload once it was decompressed

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
        if index.codec not in (PLAIN, ZSTD):
            raise ProtocolError(f"codec {index.codec} is not one this version reads (0 plain, 1 zstd)")
        if count == 0 or len(index.ends) != count * 4 or not 1 <= len(index.topics) <= count:
            raise ProtocolError("a batch holds at least one event and one topic, and no topic without an event")
        ends = batch.ends
        if array("I", sorted(ends)) != ends or (index.codec == PLAIN and ends[-1] != len(payload)):
            raise ProtocolError(f"event ends do not add up to the payload of {len(payload)} bytes")
        if index.codec == ZSTD:
            _check_compressed(batch)
        if not _topics_fit(batch):
            raise ProtocolError("the topic column does not fit the events")
        if len(index.key_hashes) not in (0, count * 4) or len(index.ids) not in (0, count * 8):
            raise ProtocolError("the key column or the id column does not fit the events")
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
    def ids(self) -> array[int]:
        """Per event, the hash of its source and id; 0 = not to be compared."""
        if self._ids is None:
            self._ids = _column("Q", self.index.ids) if self.index.ids else array("Q", bytes(8 * self.count))
        return self._ids

    @property
    def plain_bytes(self) -> int:
        """The size of its events, uncompressed."""
        return self.ends[-1] if self.index.codec else len(self.payload)

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
        ends, payload = self._open()
        view = memoryview(payload)
        topics, start = self.index.topics, 0
        for topic, key, end in zip(self.topic_of, self.keys, ends, strict=True):
            yield topics[topic], key, view[start:end]
            start = end

    def _open(self) -> tuple[array[int], Buffer]:
        """Ends and payload, plain; decompressed at most once. What cannot be opened is events without bytes.

        Such a payload passed every checksum, so its producer made it: its consumers have to see that it is there.
        """
        if self.index.codec == PLAIN:
            return self.ends, self.payload
        if self._opened is None:
            plain = expand(self.payload, self.ends[-1])
            self._opened = (self.ends, plain) if plain is not None else (array("I", bytes(4 * self.count)), b"")
        return self._opened

    def close(self) -> None:
        """Keep the compressed bytes only."""
        self._opened = None

    def select(self, chosen: Sequence[int]) -> Batch:
        """The batch of only the chosen events (ascending places); itself if all are chosen."""
        if len(chosen) == self.count:
            return self
        ends, payload = self._open()
        view = memoryview(payload)
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
        ids = [self.ids[place] for place in chosen] if self.index.ids else []
        index = BatchIndex(
            topics=[self.index.topics[old] for old in used],
            ends=_bytes("I", new_ends),
            topic_of=_bytes("H", [renamed[self.topic_of[place]] for place in chosen]) if len(used) > 1 else b"",
            key_hashes=_bytes("I", keys) if any(keys) else b"",
            ids=_bytes("Q", ids) if any(ids) else b"",
        )
        return Batch(index, _encode(index), b"".join(parts))


def _check_compressed(batch: Batch) -> None:
    if len(batch.topics) != 1:
        raise ProtocolError("a compressed batch has one topic")
    if batch.ends[-1] > MAX_PLAIN_BYTES:
        raise ProtocolError(f"a compressed batch of {batch.ends[-1]} bytes; at most {MAX_PLAIN_BYTES}")
    check_frame(batch.payload, batch.ends[-1])


def _topics_fit(batch: Batch) -> bool:
    column, topics = batch.index.topic_of, len(batch.index.topics)
    if not column:
        return topics == 1
    return len(column) == batch.count * 2 and max(batch.topic_of) < topics


class BatchBuilder:
    """Collects encoded events into one batch; bounded by whoever fills it.

    The hot path of a producer: a column is begun with the first event that needs it, the others are made in the end.
    """

    __slots__ = ("_ids", "_keys", "_parts", "_topic", "_topic_of", "_topics", "count", "size_bytes")

    def __init__(self) -> None:
        self.count = 0
        self.size_bytes = 0
        self._parts: list[bytes] = []
        self._topic: str | None = None  # of the event before
        self._topics: dict[str, int] = {}
        self._topic_of: list[int] | None = None
        self._keys: list[int] | None = None
        self._ids: list[int] | None = None

    def add(self, topic: str, key_hash: int, event: bytes, id_hash: int = 0) -> None:
        """Append one event; ``key_hash`` 0 = no key, ``id_hash`` 0 = not to be compared with what was seen."""
        count = self.count
        if topic != self._topic or self._topic_of is not None:
            self._add_topic(topic)
        if key_hash or self._keys is not None:
            if self._keys is None:
                self._keys = [0] * count
            self._keys.append(key_hash)
        if id_hash or self._ids is not None:
            if self._ids is None:
                self._ids = [0] * count
            self._ids.append(id_hash)
        self._parts.append(event)
        self.size_bytes += len(event)
        self.count = count + 1

    def _add_topic(self, topic: str) -> None:
        self._topic = topic
        place = self._topics.setdefault(topic, len(self._topics))
        if place and self._topic_of is None:
            self._topic_of = [0] * self.count
        if self._topic_of is not None:
            self._topic_of.append(place)

    def __len__(self) -> int:
        return self.count

    def build(self, *, compressed: bool = False) -> Batch:
        """The batch of all events added so far; ``compressed`` if it has one topic and becomes smaller."""
        payload = b"".join(self._parts)
        packed = compress(payload) if compressed and len(self._topics) == 1 else None
        index = BatchIndex(
            topics=list(self._topics),
            ends=_bytes("I", accumulate(map(len, self._parts))),
            topic_of=_bytes("H", self._topic_of) if self._topic_of is not None else b"",
            key_hashes=_bytes("I", self._keys) if self._keys is not None else b"",
            codec=PLAIN if packed is None else ZSTD,
            ids=_bytes("Q", self._ids) if self._ids is not None else b"",
        )
        return Batch(index, _encode(index), payload if packed is None else packed)
