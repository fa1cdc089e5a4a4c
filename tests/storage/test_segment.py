"""Segments: what is proven, and what is found behind damage."""

import os
import struct
from itertools import pairwise
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker.record import ledger_seed
from fedbus.errors import StorageError
from fedbus.storage.segment import Gap, SegmentHeader, Whole, Window, decode_header, scan
from fedbus.storage.segment_index import MARK_EVERY_BYTES, Mark, SegmentIndex, decode_index
from tests.storage.written import events, ledger_files, run_of, seen, write

SEED = ledger_seed("here/b1/0")
PATH = Path("00000000000000000000.seg")


def found_in(tmp_path: Path, data: bytes, chunk_bytes: int = 1 << 20) -> list[Whole | Gap]:
    path = tmp_path / "data"
    path.write_bytes(data)
    with path.open("rb") as file:
        return list(scan(Window(file.fileno(), len(data), chunk_bytes=chunk_bytes), 0, seed=SEED))


def encoded(*records) -> bytes:
    return b"".join(b"".join(record.buffers(SEED)) for record in records)


def test_a_header_is_read_back_and_every_flipped_bit_in_it_is_noticed():
    header = SegmentHeader("here/b1/0", 12, 34, 56)
    data = header.encode()
    assert decode_header(data + b"records", PATH) == (header, len(data))
    for at in range(len(data)):
        assert decode_header(data[:at], PATH) is None
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            assert decode_header(bytes(flipped), PATH) is None


def test_a_segment_of_a_later_format_is_refused_and_left_as_it_is(tmp_path):
    path = write(tmp_path, run_of(2))
    body = b"who knows"
    crc = google_crc32c.value(struct.pack("<HH", 2, len(body)) + body)
    later = struct.pack("<8sHHI", b"FEDBUSEG", 2, len(body), crc) + body + path.read_bytes()
    path.write_bytes(later)
    with pytest.raises(StorageError, match="segment format version 2"):
        ledger_files(tmp_path)
    assert path.read_bytes() == later
    assert sorted(path.parent.iterdir()) == [path]


def test_a_segment_in_the_wrong_place_is_refused(tmp_path):
    path = write(tmp_path, run_of(2))
    path.rename(path.with_name("00000000000000000007.seg"))
    with pytest.raises(StorageError, match="put the file back"):
        ledger_files(tmp_path)


@given(
    payloads=st.lists(st.binary(max_size=400), min_size=1, max_size=8),
    chunk_bytes=st.integers(1, 700),
    noise=st.dictionaries(st.integers(0, 7), st.binary(min_size=1, max_size=200), max_size=3),
)
def test_every_record_is_found_between_any_noise_whatever_the_chunks(tmp_path_factory, payloads, chunk_bytes, noise):
    records = [events(n, 2 * n, payload=payload) for n, payload in enumerate(payloads)]
    data = b"".join(noise.get(n, b"") + encoded(record) for n, record in enumerate(records))
    steps = found_in(tmp_path_factory.mktemp("scan"), data, chunk_bytes)
    assert [seen(step.record) for step in steps if isinstance(step, Whole)] == [seen(record) for record in records]
    assert steps[0].position == 0
    assert steps[-1].end == len(data)
    assert all(a.end == b.position for a, b in pairwise(steps))


def test_a_record_inside_a_damaged_events_body_is_not_taken_for_one_of_the_ledger(tmp_path):
    inner = events(2, 4)
    foreign = b"".join(inner.buffers(ledger_seed("there/b9/3")))
    for body in (foreign, encoded(inner)):  # of another ledger; and forged with this ledger's seed
        first, outer, last = events(0, 0), events(1, 2, payload=b"---" + body + b"---"), events(2, 4, payload=b"real")
        damaged = bytearray(encoded(first, outer, last))
        damaged[damaged.index(b"---")] ^= 1
        steps = found_in(tmp_path, bytes(damaged))
        assert [step.record.payload for step in steps if isinstance(step, Whole)] == [b"two events", b"real"]


def test_a_record_that_repeats_an_earlier_number_is_a_gap(tmp_path):
    steps = found_in(tmp_path, encoded(events(0, 0), events(1, 2), events(1, 2), events(2, 4)))
    assert [step.record.number if isinstance(step, Whole) else "gap" for step in steps] == [0, 1, "gap", 2]


def test_a_huge_claimed_length_is_disproven_without_being_held_in_memory(tmp_path):
    big = events(0, 0, payload=bytes(20 << 20))
    data = bytearray(encoded(big, events(1, 2)))
    assert [step.record.number for step in found_in(tmp_path, bytes(data)) if isinstance(step, Whole)] == [0, 1]
    data[15 << 20] ^= 1
    assert [step.record.number for step in found_in(tmp_path, bytes(data)) if isinstance(step, Whole)] == [1]


def test_an_unreadable_sector_is_an_error_for_recovery_and_damage_for_readers(tmp_path, monkeypatch):
    records = [events(n, 2 * n, payload=b"p" * 3000) for n in range(8)]
    path = tmp_path / "data"
    path.write_bytes(encoded(*records))
    real = os.pread

    def broken(fd, size, position):
        if position <= 8192 + 100 < position + size:
            raise OSError(5, "Input/output error")
        return real(fd, size, position)

    with path.open("rb") as file:
        monkeypatch.setattr(os, "pread", broken)
        size = path.stat().st_size
        with pytest.raises(OSError, match="Input/output"):
            list(scan(Window(file.fileno(), size), 0, seed=SEED))
        steps = list(scan(Window(file.fileno(), size, lenient=True), 0, seed=SEED))
    lost = {0, 1, 2, 3, 4, 5, 6, 7} - {step.record.number for step in steps if isinstance(step, Whole)}
    assert lost == {2, 3, 4}  # those that touch the sector from 8192 to 12288


def test_an_index_is_read_back_and_any_flipped_byte_makes_it_none():
    index = SegmentIndex.empty(SegmentHeader("here/b1/0", 0, 0, 1), 50)
    position = 50
    for record in run_of(20, payload=bytes(MARK_EVERY_BYTES // 4)):
        index.add(record, position, position + record.size_bytes)
        position += record.size_bytes
    data = index.encode()
    assert decode_index(data) == index
    assert len(index.marks) > 3
    for at in range(len(data)):
        assert decode_index(data[:at]) is None
        assert decode_index(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]) is None


def test_an_index_finds_the_last_mark_before_an_offset():
    index = SegmentIndex("l", 0, 0, 10, Mark(40, 9, 900), [Mark(0, 0, 10), Mark(0, 1, 300), Mark(20, 5, 600)], [])
    assert index.before(0) == Mark(0, 1, 300)
    assert index.before(19) == Mark(0, 1, 300)
    assert index.before(20) == Mark(20, 5, 600)
    assert index.before(39) == Mark(20, 5, 600)
