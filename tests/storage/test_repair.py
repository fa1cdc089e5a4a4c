"""Damage in copies is found, by reads and by scrubbing, and repaired from another holder without harm to neighbours."""

import contextlib
import random
import threading

import pytest

from fedbus.broker.copy_effects import CopyFailed as Failed
from fedbus.broker.copy_effects import DropLedger, Note, RawRecords, ReadRaw, ReadState, Repair, Scrubbed, StateRead
from fedbus.broker.effects import Read, Survey, Surveyed
from fedbus.broker.record import Kind
from fedbus.limits import DEFAULT, Limits
from fedbus.storage.disk_threads import DiskThreads
from fedbus.storage.ledger_info import damaged
from fedbus.storage.quarantine import QUARANTINE
from fedbus.storage.repair import repair
from fedbus.storage.scrubber import Pass, Scrubber
from fedbus.storage.segment_index import index_path
from tests.storage.test_committer import Results
from tests.storage.test_notes import Crash, crashing_at
from tests.storage.written import (
    COPY,
    append_copy,
    bounds,
    copy_path,
    events,
    ledger_files,
    raw_of,
    record_of,
    run_of,
    seen,
    state,
)  # fmt: skip


def sealed_copy(directory, records):
    """A copy with one sealed segment; returns the segment's path."""
    files = ledger_files(directory)
    append_copy(files, records).note(record_of(version=2, end=len(records)))
    files.close()
    [segment] = copy_path(directory).glob("*.seg")
    return segment


def flip(path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << at % 8
    path.write_bytes(data)


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "no index"])
def test_a_flip_at_any_byte_is_found_and_repaired_from_another_copy(tmp_path, indexed):
    records = run_of(2)
    segment = sealed_copy(tmp_path / "a", records)
    other = ledger_files(tmp_path / "b")
    append_copy(other, records)
    whole, ends = segment.read_bytes(), bounds(segment, records)
    index = index_path(segment).read_bytes()
    results = Results()
    for at in range(len(whole)):
        flip(segment, at)
        if not indexed:
            index_path(segment).unlink()
        files = ledger_files(tmp_path / "a")
        scrubber = Scrubber(files, results, limits=Limits(scrub_bytes_per_s=2**40))
        results.all.clear()
        scrubber.submit(Pass())
        found = results.wait_for(lambda r: isinstance(r, Scrubbed)).damaged
        expected = [] if at < ends[0] else [next((n, n + 1) for n in range(3) if ends[n] <= at < ends[n + 1])]
        lost = not indexed and expected == [(2, 3)]  # the last record, and nobody here remembers that it was written
        if lost:
            assert [run.end.number for run in files.get(COPY).runs] == [2]
            append_copy(files, records[2:])
        else:
            assert found == expected, at
            sound = [record for start, end in found for record in other.read_raw(COPY, start, 1).records]
            results.all.clear()
            scrubber.submit(Repair(COPY, sound))
            assert results.wait_for(lambda r: isinstance(r, Scrubbed)) == Scrubbed(COPY, [])
        scrubber.close()
        assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records], at
        if not lost:
            assert segment.read_bytes()[-(len(whole) - ends[0]) :] == whole[ends[0] :]
            assert len(list((segment.parent / QUARANTINE).glob("*.damaged"))) == 1
        files.close()
        again = ledger_files(tmp_path / "a")
        assert damaged(again.get(COPY)) == []
        again.close()
        for path in segment.parent.rglob("*"):
            if path.is_file() and path.name != "record":
                path.unlink()
        segment.write_bytes(whole)
        index_path(segment).write_bytes(index)


def test_what_is_not_sent_stays_damaged_and_neighbours_are_unharmed(tmp_path):
    records = run_of(9)
    segment = sealed_copy(tmp_path, records)
    ends = bounds(segment, records)
    for number in (2, 3, 4, 7, 9):
        flip(segment, ends[number] + 70)
    files = ledger_files(tmp_path)
    held = files.get(COPY)
    assert files.read_raw(COPY, 0, 1 << 20).damaged == 5
    assert damaged(held) == [(2, 5), (7, 8), (9, 10)]
    repair(held, [records[3], records[9]])
    assert damaged(held) == [(2, 3), (4, 5), (7, 8)]
    files.close()
    files = ledger_files(tmp_path)
    held = files.get(COPY)
    assert damaged(held) == [(2, 3), (4, 5), (7, 8)]
    read = files.read_raw(COPY, 0, 1 << 20)
    assert [seen(record) for record in read.records] == [seen(records[n]) for n in (0, 1, 3, 5, 6, 8, 9)]
    assert read.damaged == 3
    repair(held, [records[2], records[4], records[7]])
    assert damaged(held) == []
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]


def test_a_record_that_does_not_fit_is_not_taken(tmp_path):
    records = run_of(5)
    segment = sealed_copy(tmp_path, records)
    flip(segment, bounds(segment, records)[2] + 70)
    files = ledger_files(tmp_path)
    files.read_raw(COPY, 0, 1 << 20)
    repair(files.get(COPY), [events(2, 2, count=3)])
    assert damaged(files.get(COPY)) == [(2, 3)]
    repair(files.get(COPY), [records[2]])
    assert damaged(files.get(COPY)) == []


def test_a_segment_that_lost_its_end_gets_it_back(tmp_path):
    records = run_of(5)
    segment = sealed_copy(tmp_path, records)
    with segment.open("r+b") as file:
        file.truncate(bounds(segment, records)[3] + 5)
    files = ledger_files(tmp_path)
    held = files.get(COPY)
    assert damaged(held) == [(3, 6)]
    repair(held, records[3:5])
    assert damaged(held) == [(5, 6)]
    repair(held, records[5:])
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]


def test_a_crash_at_any_step_of_a_repair_leaves_the_damaged_file_or_the_sound_one(tmp_path, monkeypatch):
    records = run_of(5)
    for call in range(1, 200):
        directory = tmp_path / str(call)
        segment = sealed_copy(directory, records)
        flip(segment, bounds(segment, records)[2] + 70)
        files = ledger_files(directory)
        files.read_raw(COPY, 0, 1 << 20)
        with monkeypatch.context() as patch:
            calls = crashing_at(call, patch)
            with contextlib.suppress(Crash):
                repair(files.get(COPY), [records[2]])
        again = ledger_files(directory)
        read = again.read_raw(COPY, 0, 1 << 20)
        assert read.damaged in (0, 1)
        assert [seen(r) for r in read.records] == [seen(r) for r in records if r.number != 2 or not read.damaged]
        assert again.on_disk()[0].runs[0].end_number == 6
        repair(again.get(COPY), [records[2]])
        assert [seen(record) for record in raw_of(again)] == [seen(record) for record in records]
        assert list((segment.parent / QUARANTINE).glob("*.damaged"))
        again.close()
        if calls[0] < call:
            break
    assert call > 5


def test_reads_go_on_while_segments_are_repaired(tmp_path):
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    records = run_of(200)
    segment = sealed_copy(tmp_path, records)
    ends = bounds(segment, records)
    files = ledger_files(tmp_path)
    done = threading.Event()
    wrong: list = []

    def read() -> None:
        while not done.is_set():
            number = chance.randrange(201)
            found = files.read_raw(COPY, number, 2000)
            wrong.extend(record for record in found.records if seen(record) != seen(records[record.number]))

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(15):
        number = chance.randrange(1, 201)
        new = copy_path(tmp_path) / segment.name
        flip(new, new.stat().st_size - ends[-1] + ends[number] + 65)
        files.read_raw(COPY, number, 1)
        repair(files.get(COPY), [records[number]])
    done.set()
    thread.join()
    assert wrong == []
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]


def test_a_pass_begins_by_itself_and_does_not_keep_anybody_waiting(tmp_path):
    records = run_of(50, payload=bytes(50_000))
    segment = sealed_copy(tmp_path, records)
    flip(segment, segment.stat().st_size - 5)
    files = ledger_files(tmp_path)
    results = Results()
    scrubber = Scrubber(files, results, limits=Limits(scrub_rest_ms=1))
    results.wait_for(lambda r: r == Scrubbed(COPY, [(50, 51)]))
    scrubber.close()
    slow = Scrubber(files, results, limits=Limits(scrub_bytes_per_s=1))  # would take a month
    slow.submit(Pass())
    slow.submit(Repair(COPY, [records[50]]))
    results.wait_for(lambda r: r == Scrubbed(COPY, []))
    slow.submit(Pass())
    slow.close()
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]


# -- the threads together ----------------------------------------------------------------------------------------------


def disk(directory, **options):
    files = ledger_files(directory, **options)
    results = Results()
    return files, results, DiskThreads(files, results, DEFAULT)


def test_damage_that_a_read_meets_is_reported_once_behind_its_answer(tmp_path):
    records = run_of(5)
    segment = sealed_copy(tmp_path, records)
    flip(segment, bounds(segment, records)[2] + 70)
    files, results, threads = disk(tmp_path)
    threads.submit(Read(1, COPY, 0, 1 << 20))
    threads.submit(ReadRaw(2, COPY, 0, 1 << 20))
    threads.close()
    first, reported, second = results.all
    assert (first.damaged, [r.number for r in first.records]) == (2, [1, 3, 4, 5])
    assert reported == Scrubbed(COPY, [(2, 3)])
    assert isinstance(second, RawRecords)
    assert (second.damaged, second.next_number) == (1, 6)
    files.close()


def test_a_repair_seals_what_is_being_written_first(tmp_path):
    records = run_of(6)
    files, results, threads = disk(tmp_path)
    append_copy(files, records[:5])
    [segment] = copy_path(tmp_path).glob("*.seg")
    flip(segment, bounds(segment, records[:5])[2] + 70)
    threads.submit(ReadRaw(1, COPY, 0, 1 << 20))
    results.wait_for(lambda r: r == Scrubbed(COPY, [(2, 3)]))
    threads.submit(Repair(COPY, [records[2]]))
    results.wait_for(lambda r: r == Scrubbed(COPY, []))
    threads.close()
    append_copy(files, records[5:])
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]


def test_a_predecessors_state_is_read_from_its_newest_snapshot_over_several_ledgers(tmp_path):
    files, results, threads = disk(tmp_path)
    append_copy(files, run_of(2), "here/b2/0")
    append_copy(files, [state(Kind.SNAPSHOT, 0, 0, b"newer"), events(1, 0)], "here/b2/1")
    append_copy(files, [events(0, 0), state(Kind.SETTLED, 1, 2)], "here/b2/2")
    threads.submit(ReadState(["here/b2/0", "here/b2/1", "here/b2/2"]))
    threads.submit(ReadState(["here/b2/0", "here/b2/9"]))
    threads.submit(Survey("here/b2/0"))
    threads.submit(Survey("here/b2/9"))
    threads.close()
    read, failed, surveyed = results.all
    assert isinstance(read, StateRead)
    assert read.closed == {"here/b2/0": 4, "here/b2/1": 2, "here/b2/2": 2}
    assert [(ledger, record.number, bytes(record.payload)) for ledger, record in read.state] == [
        ("here/b2/1", 0, b"newer"), ("here/b2/1", 1, b""), ("here/b2/2", 0, b""), ("here/b2/2", 1, b"state"),
    ]  # fmt: skip
    assert isinstance(failed, Failed)  # no state is not the same as an empty one
    assert failed.ledger == "here/b2/9"
    [segment] = copy_path(tmp_path, "here/b2/0").glob("*.seg")
    assert surveyed == Surveyed("here/b2/0", 1002, None, segment.stat().st_size)


def test_a_state_of_which_some_cannot_be_read_is_told_apart_and_the_damage_reported(tmp_path):
    records = run_of(4)
    segment = sealed_copy(tmp_path, records)
    flip(segment, bounds(segment, records)[2] + 70)
    _, results, threads = disk(tmp_path)
    for _ in range(2):
        results.all.clear()
        threads.submit(ReadState([COPY]))
        results.wait_for(lambda r: r == Scrubbed(COPY, [(2, 3)]))
        assert results.all[0].damaged
        assert [record.number for _, record in results.all[0].state] == [0, 1, 3, 4]
    threads.submit(Repair(COPY, [records[2]]))
    results.wait_for(lambda r: r == Scrubbed(COPY, []))
    threads.submit(ReadState([COPY]))
    threads.close()
    assert [record.number for _, record in results.all[-1].state] == [0, 1, 2, 3, 4]
    assert not results.all[-1].damaged


def test_a_dropped_ledger_is_deleted_and_answers_nothing(tmp_path):
    files, results, threads = disk(tmp_path)
    append_copy(files, run_of(3))
    threads.submit(Note(record_of()))
    threads.submit(DropLedger(COPY))
    threads.submit(DropLedger(COPY))
    threads.submit(Repair(COPY, run_of(1)))
    threads.close()
    assert not copy_path(tmp_path).exists()
    assert not list(copy_path(tmp_path).parent.glob("*.dropped"))
    assert [type(result).__name__ for result in results.all] == ["Noted"]
    assert copy_path(tmp_path).parent.is_dir()
