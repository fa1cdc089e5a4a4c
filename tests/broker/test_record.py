"""Records: encoded, proven, and never mistaken for one another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker.record import (
    HEADER_BYTES,
    EventsMeta,
    Kind,
    Origin,
    Record,
    encode_body,
    ledger_seed,
    read_head,
    read_record,
)

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
records = st.builds(
    Record,
    st.sampled_from(Kind), u64, u64, u32, u64,
    confirmed=u64, meta=st.binary(max_size=40), index=st.binary(max_size=40), payload=st.binary(max_size=300),
)  # fmt: skip


def fields(record: Record) -> list[object]:
    return [getattr(record, name) for name in Record.__slots__]


@given(records, u32, st.binary(max_size=20), st.binary(max_size=20))
def test_a_record_is_read_back_as_it_was_written_wherever_it_lies(record, seed, before, behind):
    data = before + b"".join(record.buffers(seed)) + behind
    found = read_record(data, len(before), seed=seed)
    assert found is not None
    assert fields(found) == fields(record)
    assert found.size_bytes == record.size_bytes == len(data) - len(before) - len(behind)


@given(records)
def test_views_are_written_like_bytes(record):
    viewed = Record(
        record.kind, record.number, record.first_offset, record.count, record.time_ms, confirmed=record.confirmed,
        meta=memoryview(record.meta), index=memoryview(record.index), payload=memoryview(record.payload),
    )  # fmt: skip
    assert b"".join(viewed.buffers(7)) == b"".join(record.buffers(7))


@given(records)
def test_without_payload_only_that_of_events_is_left_out(record):
    found = read_record(b"".join(record.buffers()), payload=False)
    assert found is not None
    assert found.payload == (b"" if record.kind is Kind.EVENTS else record.payload)
    assert (found.meta, found.index, found.next_offset) == (record.meta, record.index, record.next_offset)


def test_every_flipped_bit_and_every_missing_byte_is_noticed():
    whole = b"".join(Record(Kind.EVENTS, 3, 9, 2, 5, meta=b"m", index=b"ix", payload=b"payload").buffers(1))
    for at in range(len(whole)):
        assert read_record(whole[:at], seed=1) is None
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            assert read_record(bytes(flipped), seed=1) is None, (at, bit)
    assert read_record(whole, seed=1) is not None


def test_a_record_of_another_ledger_is_none_of_this_one():
    whole = b"".join(Record(Kind.GROUP, 0, 0, 0, 5, payload=b"x").buffers(ledger_seed("here/b1/0")))
    assert read_record(whole, seed=ledger_seed("here/b1/0")) is not None
    assert read_record(whole, seed=ledger_seed("here/b1/1")) is None


@pytest.mark.parametrize("data", [b"", b"\xd1\xfe\xb5\x5c", bytes(HEADER_BYTES), b"\xff" * 200])
def test_what_is_no_header_is_none(data):
    assert read_head(data) is None
    assert read_record(data) is None


def test_events_meta_is_kept_and_its_absence_is_the_default():
    meta = EventsMeta("p", 4, Origin("there/b2/1", [(3, 5)], 0, 9, {"orders.>": 0}))
    record = Record(Kind.EVENTS, 0, 0, 2, 5, meta=encode_body(meta))
    assert record.events_meta() == meta
    assert Record(Kind.EVENTS, 0, 0, 2, 5).events_meta() == EventsMeta()
