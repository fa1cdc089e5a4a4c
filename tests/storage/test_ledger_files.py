"""Ledger files: what is written is read back, by offset, across segments and incarnations, also while it is written."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker.record import Kind, Record
from fedbus.errors import NotFoundError, StorageError
from fedbus.storage.ledger_reader import OPEN_SEGMENTS
from fedbus.storage.segment_writer import UNCACHED_BYTES
from fedbus.threads import spawn
from tests.storage.written import LEDGER, events, ledger_files, read_all, run_of, seen, state, write

OPEN_NOW = Path("/proc/self/fd")

shapes = st.lists(  # per group: per record (kind, events, payload bytes); then whether the segment is rolled
    st.tuples(
        st.lists(st.tuples(st.sampled_from(Kind), st.integers(1, 9), st.binary(max_size=500)), min_size=1, max_size=6),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(shape=shapes, max_bytes=st.integers(1, 3000), clean=st.booleans(), data=st.data())
def test_any_records_are_read_back_by_offset_before_and_after_a_restart(
    tmp_path_factory, shape, max_bytes, clean, data
):
    directory = tmp_path_factory.mktemp("ledger")
    files = ledger_files(directory)
    assert files.create(files.next_epoch) == LEDGER
    records: list[Record] = []
    offset = 0
    for group, roll in shape:
        new = []
        for kind, count, payload in group:
            number = len(records) + len(new)
            record = (
                events(number, offset, count, payload) if kind is Kind.EVENTS else state(kind, number, offset, payload)
            )
            new.append(record)
            offset = record.next_offset
        files.append(new)
        files.sync()
        records += new
        if roll:
            files.roll_segment()
    batches = [record for record in records if record.kind is Kind.EVENTS]
    wanted = data.draw(st.integers(0, offset + 2))
    for closed in (False, True):
        [info] = files.ledgers()
        assert (info.end_offset, info.next_number, info.closed) == (offset, len(records), closed)
        assert info.damage == ()
        got, damaged = read_all(files, max_bytes=max_bytes)
        assert ([seen(r) for r in got], damaged) == ([seen(r) for r in batches], 0)
        found = files.read(LEDGER, wanted, 1)
        assert [seen(r) for r in found.records] == [seen(r) for r in batches if r.next_offset > wanted][:1]
        newest = max((n for n, r in enumerate(records) if r.kind is Kind.SNAPSHOT), default=0)
        folded = [(r.number, r.kind, bytes(r.payload)) for _, r in files.state_records()]
        assert folded == [(r.number, r.kind, b"" if r.kind is Kind.EVENTS else r.payload) for r in records[newest:]]
        if clean or closed:
            files.close()
        files = ledger_files(directory)
    files.close()


def test_nothing_is_visible_before_it_is_durable(tmp_path):
    files = ledger_files(tmp_path)
    files.create(0)
    files.append(run_of(2))
    assert read_all(files) == ([], 0)
    assert files.ledgers()[0].next_number == 0
    files.sync()
    assert len(read_all(files)[0]) == 2


def test_records_that_leave_a_hole_are_our_bug_and_are_not_written(tmp_path):
    files = ledger_files(tmp_path)
    files.create(0)
    for wrong in (events(1, 0), events(0, 1)):
        with pytest.raises(AssertionError, match="does not follow"):
            files.append([wrong])
    files.append([events(0, 0)])
    files.sync()
    assert [record.number for record in read_all(files)[0]] == [0]


def test_a_new_incarnation_closes_the_earlier_ledgers_and_never_reuses_an_epoch(tmp_path):
    write(tmp_path, run_of(2))
    files = ledger_files(tmp_path)
    assert [info.closed for info in files.ledgers()] == [True]
    with pytest.raises(StorageError, match="the next free one is 1"):
        files.create(0)
    assert files.create(5) == "here/b1/5"
    assert files.next_epoch == 6
    files.append(run_of(1))
    files.sync()
    assert [(info.id, info.closed) for info in files.ledgers()] == [("here/b1/0", True), ("here/b1/5", False)]
    with pytest.raises(NotFoundError):
        files.read("here/b1/3", 0, 1)


def test_state_begins_with_the_newest_snapshot_and_goes_on_over_later_ledgers(tmp_path):
    write(tmp_path, run_of(2), [state(Kind.SNAPSHOT, 3, 4, b"newest"), state(Kind.GROUP, 4, 4), events(5, 4)])
    write(tmp_path, [events(0, 0), state(Kind.SETTLED, 1, 2)], epoch=1)
    files = ledger_files(tmp_path)
    files.create(2)
    assert [(ledger, record.number, bytes(record.payload)) for ledger, record in files.state_records()] == [
        ("here/b1/0", 3, b"newest"),
        ("here/b1/0", 4, b"state"),
        ("here/b1/0", 5, b""),
        ("here/b1/1", 0, b""),
        ("here/b1/1", 1, b"state"),
    ]


def test_a_damaged_snapshot_is_passed_over_for_the_one_before(tmp_path):
    segment = write(tmp_path, run_of(1), [state(Kind.SNAPSHOT, 2, 2, b"broken"), events(3, 2)])
    ledger_files(tmp_path)  # seals
    segment.write_bytes(segment.read_bytes().replace(b"broken", b"brokem"))
    assert [record.number for _, record in ledger_files(tmp_path).state_records()] == [0, 1, 3]


def test_an_empty_directory_has_no_ledgers_and_no_state(tmp_path):
    files = ledger_files(tmp_path)
    assert (files.ledgers(), list(files.state_records()), files.next_epoch) == ([], [], 0)


def test_open_descriptors_are_bounded_however_many_segments_are_read(tmp_path):
    segments = 3 * OPEN_SEGMENTS
    write(tmp_path, *([events(n, 2 * n)] for n in range(segments)))
    files = ledger_files(tmp_path)
    before = len(list(OPEN_NOW.iterdir()))
    assert len(read_all(files, max_bytes=1)[0]) == segments
    assert len(list(OPEN_NOW.iterdir())) - before == OPEN_SEGMENTS
    files.close()
    assert len(list(OPEN_NOW.iterdir())) == before


def test_reading_while_appending_sees_a_growing_prefix_and_nothing_else(tmp_path):
    files = ledger_files(tmp_path)
    files.create(0)
    total, seen_offsets, problems = 1000, [], []

    def read() -> None:
        offset = 0
        try:
            while offset < 2 * total:
                found = files.read(LEDGER, offset, 1 << 16)
                for record in found.records:
                    if record.first_offset != offset or record.payload != b"%d" % record.number * 50 or found.damaged:
                        problems.append((offset, record, found.damaged))
                    offset = record.next_offset
                seen_offsets.append(offset)
                if found.next_offset != offset:
                    problems.append(found)
        except BaseException as error:
            problems.append(error)
            raise

    readers = [spawn(f"reader-{n}", read) for n in range(2)]
    for number in range(0, total, 5):
        files.append([events(n, 2 * n, payload=b"%d" % n * 50) for n in range(number, number + 5)])
        files.sync()
        if number % 500 == 0:
            files.roll_segment()
    for reader in readers:
        reader.join(timeout=60)
    assert problems == []
    assert seen_offsets[-1] == 2 * total


def test_a_failed_sync_stops_the_ledger_for_good(tmp_path):
    broken = threading.Event()

    def fdatasync(fd: int) -> None:
        if broken.is_set():
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(fd)

    files = ledger_files(tmp_path, fdatasync=fdatasync)
    files.create(0)
    files.append(run_of(1))
    files.sync()
    broken.set()
    files.append([events(2, 2)])
    with pytest.raises(OSError, match="Input/output"):
        files.sync()
    broken.clear()
    for write_more in (lambda: files.append([events(2, 2)]), files.sync):
        with pytest.raises(OSError, match="failed before"):
            write_more()
    assert [record.number for record in read_all(files)[0]] == [1]


REFUSED = """
import resource, sys
from pathlib import Path
from fedbus.errors import StorageError
from tests.storage.written import events, ledger_files, read_all
files = ledger_files(Path(sys.argv[1]))
files.create(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
files.append([events(0, 0, payload=bytes(9000))]); files.sync()
try:
    files.append([events(n, 2 * n, payload=bytes(9000)) for n in (1, 2)])
except StorageError as error:
    print(error)
assert [r.number for r in read_all(files)[0]] == [0]
assert files.ledgers()[0].size_bytes == sorted(Path(sys.argv[1]).glob("ledgers/0/*.seg"))[0].stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
files.append([events(n, 2 * n, payload=bytes(9000)) for n in (1, 2)]); files.sync()
assert [r.number for r in read_all(files)[0]] == [0, 1, 2]
"""


def test_a_write_beyond_the_file_size_limit_is_taken_back_and_writing_resumes(tmp_path):
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", REFUSED, str(tmp_path)], cwd=root, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "writing resumes by itself" in run.stdout
    assert [record.number for record in read_all(ledger_files(tmp_path))[0]] == [0, 1, 2]


def test_where_the_kernel_cannot_write_past_its_page_cache_large_writes_are_made_as_small_ones_are(
    tmp_path, monkeypatch
):
    real, flags = os.pwritev, []

    def refuses_flags(fd, buffers, position, wanted=0):
        flags.append(wanted)
        if wanted:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(fd, buffers, position)

    monkeypatch.setattr(os, "pwritev", refuses_flags)
    files = ledger_files(tmp_path)
    files.create(files.next_epoch)
    large = [events(number, 2 * number, payload=bytes(UNCACHED_BYTES)) for number in range(3)]
    for record in [*large, events(3, 6)]:
        files.append([record])
        files.sync()
    files.close()
    assert [record.number for record in read_all(ledger_files(tmp_path))[0]] == [0, 1, 2, 3]
    assert [bool(each) for each in flags] == [True, False, False, False, False]
