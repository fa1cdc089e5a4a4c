"""Batches: what is built is read, what is selected is a batch, and what a stranger sends is proven."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.batch import KNOWN_TOPICS, Batch, BatchBuilder, BatchIndex
from fedbus.errors import ProtocolError

events = st.lists(
    st.tuples(st.sampled_from(["a", "b.c", "d"]), st.sampled_from([0, 1, 7, 2**32 - 1]), st.binary(max_size=9)),
    min_size=1,
    max_size=12,
)


def built(events) -> Batch:
    builder = BatchBuilder()
    for event in events:
        builder.add(*event)
    assert len(builder) == len(events)
    return builder.build()


def content(batch: Batch):
    return [(topic, key, bytes(body)) for topic, key, body in batch.events()]


@given(events)
def test_what_was_built_is_read_back(events):
    batch = built(events)
    for read in (Batch.decode, lambda index, payload: Batch.checked(index, payload, set())):
        again = read(batch.index_bytes, memoryview(batch.payload))
        assert content(again) == events
        assert (again.count, again.keyed) == (len(events), any(key for _, key, _ in events))


@given(events, st.data())
def test_what_was_selected_is_a_batch_of_its_own(events, data):
    places = sorted(data.draw(st.sets(st.integers(0, len(events) - 1), min_size=1)))
    batch = built(events).select(places)
    again = Batch.checked(batch.index_bytes, batch.payload, set())
    assert content(again) == [events[place] for place in places]


@given(events, st.data())
def test_damaged_bytes_are_a_batch_or_a_protocol_error(events, data):
    batch = built(events)
    index, payload = bytearray(batch.index_bytes), bytearray(batch.payload)
    for _ in range(data.draw(st.integers(1, 4))):
        part = data.draw(st.sampled_from([index, payload]))
        at = data.draw(st.integers(0, len(part)))
        match data.draw(st.sampled_from(["flip", "cut", "grow"])):
            case "flip" if at < len(part):
                part[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del part[at:]
            case "grow":
                part[at:at] = data.draw(st.binary(min_size=1, max_size=5))
    try:
        checked = Batch.checked(bytes(index), bytes(payload), set())
    except ProtocolError:
        return
    assert sum(len(body) for _, _, body in content(checked)) == len(payload)
    assert content(checked.select(range(1, checked.count)))[:1] == content(checked)[1:2]


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_bytes_are_a_batch_or_a_protocol_error(index, payload):
    with contextlib.suppress(ProtocolError):
        Batch.checked(index, payload, set())


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        (BatchIndex(["a"], b""), "at least one event"),
        (BatchIndex([], b"\1\0\0\0"), "at least one event"),
        (BatchIndex(["a", "b"], b"\1\0\0\0", b"\0\0"), "no topic without an event"),
        (BatchIndex(["a"], b"\2\0\0\0"), "do not add up"),
        (BatchIndex(["a"], b"\1\0\0"), "at least one event"),
        (BatchIndex(["a"], b"\1\0\0\0", b"\1\0"), "topic column"),
        (BatchIndex(["a"], b"\1\0\0\0", b"\0\0\0\0"), "topic column"),
        (BatchIndex(["a"], b"\1\0\0\0", b"", b"\1\0"), "key column"),
        (BatchIndex(["a b"], b"\1\0\0\0"), "not a topic"),
        (BatchIndex(["a"], b"\1\0\0\0", codec=1), "codec 1"),
    ],
)
def test_columns_that_contradict_are_named(index, complaint):
    with pytest.raises(ProtocolError, match=complaint):
        Batch.checked(msgspec.msgpack.encode(index), b"x", set())


def test_the_topics_remembered_are_bounded():
    known = {f"t{n}" for n in range(KNOWN_TOPICS)}
    batch = built([("new", 0, b"")])
    Batch.checked(batch.index_bytes, batch.payload, known)
    assert known == {"new"}
