"""Copies of ledgers: runs that meet, what a crash leaves of them, dropping."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.broker.on_disk import HeldRun
from fedbus.broker.record import Kind
from fedbus.storage.quarantine import QUARANTINE
from tests.storage.written import (
    COPY,
    SMALL,
    append_copy,
    bounds,
    copy_path,
    crash,
    events,
    ledger_files,
    numbers,
    on_disk,
    raw_of,
    read_all,
    record_of,
    run_of,
    runs_of,
    seen,
    state,
)


def test_a_copy_is_read_as_the_ledger_it_is_of(tmp_path):
    files = ledger_files(tmp_path)
    records = run_of(4)
    append_copy(files, records)
    assert [seen(record) for record in read_all(files, COPY)[0]] == [seen(record) for record in records[1:]]
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]
    assert next(seen(record) for _, record in files.fold([COPY])) == seen(records[0])
    found = on_disk(files)
    assert found.runs == (HeldRun(0, 0, 5, 8),)
    assert (found.record, found.damaged, found.torn) == (None, (), False)
    assert found.newest_ms == records[-1].time_ms
    files.close()
    again = ledger_files(tmp_path)
    assert on_disk(again) == found
    assert numbers(raw_of(again)) == [0, 1, 2, 3, 4]


def test_a_copy_begins_a_segment_at_a_snapshot_once_the_last_one_is_large_enough(tmp_path):
    files = ledger_files(tmp_path, limits=SMALL)
    records, number, offset = [], 0, 0
    for _ in range(3):
        records += [state(Kind.SNAPSHOT, number, offset), state(Kind.SNAPSHOT, number + 1, offset)]
        records += [events(number + 2, offset, payload=bytes(900)), events(number + 3, offset + 2, payload=bytes(900))]
        number, offset = number + 4, offset + 4
    append_copy(files, records[:7])
    append_copy(files, records[7:])
    assert sorted(int(path.stem) for path in copy_path(tmp_path).glob("*.seg")) == [0, 4, 8]
    assert [record.number for _, record in files.fold([COPY])] == [9, 10, 11]
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]


def test_what_is_here_already_is_not_written_again(tmp_path):
    files = ledger_files(tmp_path)
    records = run_of(4)
    append_copy(files, records[:4])
    size = sum(path.stat().st_size for path in copy_path(tmp_path).glob("*.seg"))
    append_copy(files, records[1:4])
    assert sum(path.stat().st_size for path in copy_path(tmp_path).glob("*.seg")) == size
    append_copy(files, records[2:])
    assert numbers(raw_of(files)) == [0, 1, 2, 3, 4]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_comes_in_whatever_pieces_each_run_grows_until_they_meet(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("copy")
    total = data.draw(st.integers(2, 30))
    records = run_of(total - 1)
    tail = data.draw(st.integers(1, total - 1))  # where this instance became a member
    ends = {0: 0, tail: tail}
    limit = {0: total, tail: total}
    files = ledger_files(tmp_path)
    held: set[int] = set()
    files.hold(COPY).note(record_of(first=tail))
    while len(held) < total:
        start = data.draw(st.sampled_from([start for start in ends if ends[start] < limit[start]]))
        overlap = data.draw(st.integers(0, min(2, ends[start] - start)))
        to = data.draw(st.integers(ends[start] + 1, limit[start]))
        append_copy(files, records[ends[start] - overlap : to])
        held |= set(range(start, to))
        ends[start] = to
        if ends[0] >= tail:
            ends[0] = ends[tail] = max(ends.values())
        expected = []
        for number in sorted(held):
            if expected and expected[-1][1] == number:
                expected[-1][1] = number + 1
            else:
                expected.append([number, number + 1])
        if data.draw(st.booleans()):
            (crash if data.draw(st.booleans()) else type(files).close)(files)
            files = ledger_files(tmp_path)
        assert runs_of(files) == [tuple(run) for run in expected]
        for first, _ in expected:
            assert numbers(raw_of(files, number=first)) == list(range(first, dict(expected)[first]))
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]
    assert on_disk(files).damaged == ()
    files.close()


def test_runs_whose_offsets_contradict_one_another_never_become_one(tmp_path):
    files = ledger_files(tmp_path)
    append_copy(files, [events(2, 9)])
    with pytest.raises(AssertionError, match="not copies of one ledger"):
        append_copy(files, run_of(1))


# -- what a crash leaves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [0, 3], ids=["unconfirmed", "confirmed"])
def test_a_torn_write_at_every_byte_of_a_copys_end_is_set_aside_unless_it_had_been_confirmed(tmp_path, known):
    records = run_of(2)
    files = ledger_files(tmp_path / "a")
    append_copy(files, records).note(record_of(first=known))
    crash(files)
    [original] = copy_path(tmp_path / "a").glob("*.seg")
    whole, ends = original.read_bytes(), bounds(original, records)
    for at in range(ends[2] - 2, len(whole)):
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        segment = copy_path(tmp_path / "b") / original.name
        segment.write_bytes(whole[:at])
        kept = max(n for n, end in enumerate(ends) if end <= at)
        torn = at > ends[kept]
        for _ in range(2):
            files = ledger_files(tmp_path / "b")
            found = on_disk(files)
            assert runs_of(files) == [(0, kept)]
            assert found.confirmed == known
            if known > kept:  # it was promised to be here: damage, and nothing is cut
                assert segment.read_bytes() == whole[:at]
                assert not (segment.parent / QUARANTINE).exists()
            elif torn:
                assert segment.read_bytes() == whole[: ends[kept]]
                assert (segment.parent / QUARANTINE / f"{segment.name}.{ends[kept]}.tail").read_bytes()
            assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records[:kept]]
        append_copy(files, records[kept:])  # and it goes on behind what is whole
        assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]
        files.close()
        assert runs_of(ledger_files(tmp_path / "b")) == [(0, 3)]
        shutil.rmtree(tmp_path / "b")


def test_a_torn_tail_is_told_once_and_not_after_it_was_set_aside(tmp_path):
    files = ledger_files(tmp_path)
    append_copy(files, run_of(3)).note(record_of())
    crash(files)
    [segment] = copy_path(tmp_path).glob("*.seg")
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - 1)
    assert on_disk(ledger_files(tmp_path)).torn
    assert not on_disk(ledger_files(tmp_path)).torn


def test_the_torn_end_of_a_backfill_is_fetched_again(tmp_path):
    files = ledger_files(tmp_path)
    records = run_of(9)
    held = append_copy(files, records[:4])
    append_copy(files, records[6:])
    held.note(record_of(first=6))
    crash(files)
    first, _ = sorted(copy_path(tmp_path).glob("*.seg"))
    with first.open("r+b") as file:
        file.truncate(first.stat().st_size - 1)
    files = ledger_files(tmp_path)
    assert runs_of(files) == [(0, 3), (6, 10)]
    append_copy(files, records[3:6])
    assert runs_of(files) == [(0, 10)]
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]


def test_the_confirmed_number_is_known_from_the_records_too(tmp_path):
    files = ledger_files(tmp_path)
    append_copy(files, [*run_of(3), events(4, 6, confirmed=4)])
    assert on_disk(files).confirmed == 4


# -- own ledgers, dropping ---------------------------------------------------------------------------------------------


def test_an_own_former_ledger_that_is_noted_is_a_copy_like_others(tmp_path):
    files = ledger_files(tmp_path)
    files.create(0)
    records = run_of(5)
    files.append(records[:3])
    files.sync()
    files.current.note(record_of("here/b1/0"))
    crash(files)
    files = ledger_files(tmp_path)
    assert files.next_epoch == 1
    append_copy(files, records[3:], "here/b1/0")  # what another member had more of it
    files.get("here/b1/0").note(record_of("here/b1/0", version=2, end=6))
    assert [seen(record) for record in raw_of(files, "here/b1/0")] == [seen(record) for record in records]
    assert files.create(1) == "here/b1/1"


def test_a_ledger_that_was_noted_before_it_began_can_begin(tmp_path):
    files = ledger_files(tmp_path)
    files.hold("here/b1/4").note(record_of("here/b1/4"))
    assert files.next_epoch == 5
    assert files.create(4) == "here/b1/4"
    files.append(run_of(1))
    files.sync()
    files.close()
    files = ledger_files(tmp_path)
    assert runs_of(files, "here/b1/4") == [(0, 2)]
    assert files.next_epoch == 5


def test_a_dropped_ledger_is_gone_also_if_its_files_are_deleted_only_later(tmp_path):
    files = ledger_files(tmp_path)
    append_copy(files, run_of(3))
    append_copy(files, run_of(3), "here/b3/0")
    dropped = files.drop(COPY)
    assert dropped.is_dir()
    assert [found.ledger for found in files.on_disk()] == ["here/b3/0"]
    assert files.drop(COPY) is None
    append_copy(files, run_of(1))  # it may come again
    assert numbers(raw_of(files)) == [0, 1]
    files.close()
    again = ledger_files(tmp_path)
    assert not dropped.exists()
    assert [found.ledger for found in again.on_disk()] == [COPY, "here/b3/0"]
