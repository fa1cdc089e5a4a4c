"""Compressed batches: whole they pass untouched, slices are opened within declared bounds, bombs are refused."""

import msgspec
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from fedbus.batch import MAX_PLAIN_BYTES, Batch, BatchBuilder, BatchIndex
from fedbus.compression import SMALLEST_BYTES, check_compression, compress, expand
from fedbus.errors import ConfigurationError, ProtocolError

BODIES = [b"event %d, much like all the others" % n for n in range(40)]


def built(bodies: list[bytes], *topics: str) -> Batch:
    builder = BatchBuilder()
    for n, body in enumerate(bodies):
        builder.add(topics[n % len(topics)] if topics else "a.b", n % 3, body, n)
    return builder.build(compressed=True)


def received(batch: Batch, **changes: object) -> Batch:
    index = msgspec.msgpack.encode(msgspec.structs.replace(batch.index, **changes))
    return Batch.checked(index, batch.payload, set())


def bodies_of(batch: Batch) -> list[bytes]:
    return [bytes(body) for _, _, body in batch.events()]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=30), st.data())
def test_events_and_slices_are_the_same_as_uncompressed(bodies, data):
    batch = received(built(bodies))
    assert bodies_of(batch) == bodies
    chosen = sorted(data.draw(st.sets(st.integers(0, len(bodies) - 1), min_size=1)))
    part = received(batch.select(chosen))
    assert bodies_of(part) == [bodies[place] for place in chosen]
    assert list(part.keys) == [place % 3 for place in chosen]
    assert list(part.ids) == chosen
    assert batch.select(range(len(bodies))) is batch, "the whole is never opened for sending"


def test_the_whole_batch_is_never_opened_and_a_slice_once(monkeypatch):
    batch = received(built(BODIES))
    assert len(batch.payload) < batch.plain_bytes == sum(map(len, BODIES))
    opened = []
    monkeypatch.setattr("fedbus.batch.expand", lambda *what: opened.append(1) or expand(*what))
    batch.select(range(40))
    assert not opened
    for place in range(40):
        assert bodies_of(batch.select([place])) == [BODIES[place]]
    assert len(opened) == 1
    batch.close()
    batch.select([1])
    assert len(opened) == 2


def test_what_does_not_become_smaller_and_what_has_several_topics_stays_plain():
    assert compress(b"x" * (SMALLEST_BYTES - 1)) is None
    assert built([bytes(range(256))]).index.codec == 0
    assert built(BODIES, "a", "b").index.codec == 0


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"codec": 2}, "codec 2"),
        ({"topics": ["a", "b"], "topic_of": bytes(80)}, "one topic"),
        ({"ends": b"".join(n.to_bytes(4, "little") for n in range(40))}, "declares"),
        ({"ends": b"".join((n * 10**6).to_bytes(4, "little") for n in range(40))}, "at most"),
    ],
)
def test_a_batch_that_contradicts_itself_is_refused(changes, wrong):
    with pytest.raises(ProtocolError, match=wrong):
        received(built(BODIES), **changes)


def test_a_payload_that_is_no_frame_is_refused():
    index = BatchIndex(["a"], (5).to_bytes(4, "little"), codec=1)
    with pytest.raises(ProtocolError, match="no zstd frame"):
        Batch.checked(msgspec.msgpack.encode(index), b"hello", set())


def test_a_bomb_is_never_opened_beyond_what_it_declares():
    """Its header says 100 bytes, its content is 64 MiB; and one whose window alone would take a lot of memory."""
    bomb = zstd.compress(bytes(64 * 1024 * 1024))
    assert len(bomb) < 8192
    assert expand(bomb, 100) is None
    wide = zstd.compress(bytes(100), options={zstd.CompressionParameter.window_log: 27})
    assert expand(wide[:-1], 100) is None
    assert MAX_PLAIN_BYTES < 64 * 1024 * 1024


def test_a_frame_that_cannot_be_opened_is_events_without_bytes():
    batch = built(BODIES)
    damaged = bytearray(batch.payload)
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    broken = Batch.checked(batch.index_bytes, bytes(damaged), set())
    assert bodies_of(broken) == [b""] * 40
    assert bodies_of(broken.select([3, 4])) == [b"", b""]


def test_an_unknown_compression_is_named():
    assert check_compression(None) is None
    with pytest.raises(ConfigurationError, match="lz4"):
        check_compression("lz4")
