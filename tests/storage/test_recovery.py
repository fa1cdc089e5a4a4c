"""Recovery: torn tails are set aside, damage is reported and read around, and nothing is ever deleted."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from fedbus.broker.record import Kind
from fedbus.storage.quarantine import QUARANTINE
from fedbus.storage.segment_index import Damage, index_path
from tests.storage.written import LEDGER, bounds, events, ledger_files, read_all, run_of, seen, state, write

CRASH_POINTS = ("fsync", "ftruncate", "pwrite", "rename", "mkdir", "open")


class Crash(BaseException):
    """The machine stops here."""


def quarantined(segment: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (segment.parent / QUARANTINE).glob("*")}


@pytest.mark.parametrize("filler", [b"", b"\0", b"\xd1\xfe\xb5\x5c"], ids=["cut", "zeros", "magic"])
def test_a_torn_write_at_every_byte_is_cut_at_the_last_whole_record_and_kept(tmp_path, filler):
    records = run_of(3)
    original = write(tmp_path / "a", records)
    whole = original.read_bytes()
    ends = bounds(original, records)
    for at in range(len(whole)):
        directory = tmp_path / "b"
        segment = directory / original.relative_to(tmp_path / "a")
        segment.parent.mkdir(parents=True)
        torn = whole[:at] + (filler * len(whole))[: len(whole) - at]
        if torn == whole:
            torn = whole[:at]
        segment.write_bytes(torn)

        files = ledger_files(directory)
        kept = max((n for n, end in enumerate(ends) if end <= at), default=0)
        cut = ends[kept] if at >= ends[0] else 0
        [info] = files.ledgers()
        assert info.damage == ()
        assert (info.next_number, info.end_offset) == (kept, max(2 * (kept - 1), 0)), at
        got, damaged = read_all(files)
        assert damaged == 0
        assert [seen(record) for record in got] == [seen(record) for record in records[1:kept]]
        if cut < len(torn) or at < ends[0]:
            assert quarantined(segment) == {f"{segment.name}.{cut}.tail": torn[cut:]}
            assert files.set_aside == [segment.parent / QUARANTINE / f"{segment.name}.{cut}.tail"]
        if cut:
            assert segment.read_bytes() == whole[:cut]
        assert [i.next_number for i in ledger_files(directory).ledgers()] == [kept]  # and again
        shutil.rmtree(directory)


def test_a_flip_at_every_byte_of_a_middle_record_is_reported_and_its_neighbours_are_read(tmp_path):
    records = run_of(4)
    segment = write(tmp_path, records)
    whole = segment.read_bytes()
    places = bounds(segment, records)
    start, end = places[2], places[3]
    for at in range(start, end):
        damaged_bytes = whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :]
        segment.write_bytes(damaged_bytes)
        index_path(segment).unlink(missing_ok=True)
        for sealed in (False, True):  # found by recovery; then known from the index that recovery wrote
            assert index_path(segment).exists() is sealed
            files = ledger_files(tmp_path)
            [info] = files.ledgers()
            assert info.damage == (Damage(segment.name, start, end, 2, 3, 2, 4),), at
            got, damaged = read_all(files)
            assert (damaged, [seen(r) for r in got]) == (2, [seen(records[n]) for n in (1, 3, 4)]), at
            one_by_one, damaged = read_all(files, max_bytes=1)
            assert (damaged, [seen(r) for r in one_by_one]) == (2, [seen(records[n]) for n in (1, 3, 4)]), at
            assert segment.read_bytes() == damaged_bytes
            assert quarantined(segment) == {}


def test_a_flip_after_sealing_is_reported_by_the_read_that_meets_it(tmp_path):
    records = run_of(4)
    segment = write(tmp_path, records)
    places = bounds(segment, records)
    ledger_files(tmp_path)  # seals
    with segment.open("r+b") as file:
        file.seek(places[2] + 70)
        file.write(b"?")
    files = ledger_files(tmp_path)
    assert files.ledgers()[0].damage == ()
    found = files.read(LEDGER, 2, 1 << 20)
    assert (found.damaged, found.next_offset, [r.number for r in found.records]) == (2, 8, [3, 4])
    assert files.ledgers()[0].damage == (Damage(segment.name, places[2], places[3], 2, 3, 2, 4),)


def test_a_flip_at_every_byte_of_the_segment_header_harms_no_record(tmp_path):
    records = run_of(2)
    segment = write(tmp_path, records)
    whole = segment.read_bytes()
    header_end = bounds(segment, records)[0]
    for at in range(header_end):
        segment.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        index_path(segment).unlink(missing_ok=True)
        for _ in range(2):
            files = ledger_files(tmp_path)
            assert files.ledgers()[0].damage == (Damage(segment.name, 0, header_end, 0, 0, 0, 0),)
            assert [seen(record) for record in read_all(files)[0]] == [seen(record) for record in records[1:]]
            assert [record.number for _, record in files.state_records()] == [0, 1, 2]
    assert quarantined(segment) == {}


def test_damage_and_a_torn_tail_in_one_segment_are_told_apart(tmp_path):
    records = run_of(5)
    segment = write(tmp_path, records)
    places = bounds(segment, records)
    data = bytearray(segment.read_bytes())
    data[places[2]] ^= 1
    data[places[3]] ^= 1
    segment.write_bytes(data[:-1])
    files = ledger_files(tmp_path)
    assert files.ledgers()[0].damage == (Damage(segment.name, places[2], places[4], 2, 4, 2, 6),)
    assert quarantined(segment) == {f"{segment.name}.{places[5]}.tail": bytes(data[places[5] : -1])}
    assert [record.number for record in read_all(files)[0]] == [1, 4]


def three_segments(tmp_path: Path) -> tuple[Path, list[list]]:
    parts = [
        [state(Kind.SNAPSHOT, 0, 0), events(1, 0), events(2, 2)],
        [state(Kind.SNAPSHOT, 3, 4), events(4, 4), events(5, 6)],
        [state(Kind.SNAPSHOT, 6, 8), events(7, 8), events(8, 10)],
    ]
    last = write(tmp_path, *parts)
    return last.parent, parts


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"junk")], ids=["missing", "damaged"])
def test_a_lost_index_is_built_again(tmp_path, harm):
    directory, _ = three_segments(tmp_path)
    index = min(directory.glob("*.idx"))
    good = index.read_bytes()
    harm(index)
    files = ledger_files(tmp_path)
    assert index.read_bytes() == good
    assert [record.number for record in read_all(files)[0]] == [1, 2, 4, 5, 7, 8]


@pytest.mark.parametrize("indexed", [True, False], ids=["with index", "without index"])
def test_a_sealed_segment_that_lost_its_end_is_damage_and_not_a_torn_tail(tmp_path, indexed):
    directory, parts = three_segments(tmp_path)
    middle = sorted(directory.glob("*.seg"))[1]
    places = bounds(middle, parts[1])
    with middle.open("r+b") as file:
        file.truncate(places[2] + 3)
    if not indexed:
        index_path(middle).unlink()
    files = ledger_files(tmp_path)
    [damage] = files.ledgers()[0].damage
    assert (damage.segment, damage.start) == (middle.name, places[2])
    assert (damage.first_number, damage.end_number, damage.first_offset, damage.end_offset) == (5, 6, 6, 8)
    assert middle.stat().st_size == places[2] + 3
    got, damaged = read_all(files)
    assert ([record.number for record in got], damaged) == ([1, 2, 4, 7, 8], 2)


def test_a_missing_segment_is_damage(tmp_path):
    directory, _ = three_segments(tmp_path)
    middle = sorted(directory.glob("*.seg"))[1]
    middle.unlink()
    files = ledger_files(tmp_path)
    [damage] = files.ledgers()[0].damage
    assert (damage.first_number, damage.end_number, damage.first_offset, damage.end_offset) == (3, 6, 4, 8)
    got, damaged = read_all(files)
    assert ([record.number for record in got], damaged) == ([1, 2, 7, 8], 4)


def test_an_older_ledger_is_never_cut(tmp_path):
    segment = write(tmp_path, run_of(3))
    write(tmp_path, run_of(2), epoch=1)
    index_path(segment).unlink()
    with segment.open("ab") as file:
        file.write(b"not a record")
    data = segment.read_bytes()
    old, new = ledger_files(tmp_path).ledgers()
    assert segment.read_bytes() == data
    assert (old.end_offset, new.end_offset) == (6, 4)
    assert [(damage.start, damage.end) for damage in old.damage] == [(len(data) - 12, len(data))]


def test_a_ledger_whose_creation_was_torn_is_empty_and_keeps_its_epoch(tmp_path):
    write(tmp_path, run_of(1))
    (tmp_path / "ledgers" / "1").mkdir()
    files = ledger_files(tmp_path)
    assert [(info.id, info.end_offset, info.closed) for info in files.ledgers()] == [
        ("here/b1/0", 2, True),
        ("here/b1/1", 0, True),
    ]
    assert files.next_epoch == 2
    assert read_all(files, "here/b1/1") == ([], 0)


def crashing_at(call: int, monkeypatch) -> list[int]:
    """Let the machine stop before the ``call``-th change on disk; returns a counter of the calls so far."""
    calls = [0]

    def stop_before(real):
        def wrapped(*args, **kwargs):
            calls[0] += 1
            if calls[0] == call:
                raise Crash
            return real(*args, **kwargs)

        return wrapped

    for name in CRASH_POINTS:
        monkeypatch.setattr(os, name, stop_before(getattr(os, name)))
    return calls


@pytest.mark.parametrize("torn_at", [20, -3], ids=["torn header", "torn record"])
def test_a_crash_at_any_step_of_a_recovery_changes_nothing_of_its_outcome(tmp_path, monkeypatch, torn_at):
    whole = write(tmp_path / "a", run_of(3)).read_bytes()
    outcomes = []
    for call in range(200):
        directory = tmp_path / f"b{call}"
        segment = directory / "ledgers" / "0" / "00000000000000000000.seg"
        segment.parent.mkdir(parents=True)
        segment.write_bytes(whole[:torn_at])
        with monkeypatch.context() as patch:
            calls = crashing_at(call, patch)
            with contextlib.suppress(Crash):
                ledger_files(directory)
        files = ledger_files(directory)
        kept = segment.read_bytes() if segment.exists() else None
        tails = {name: data for name, data in quarantined(segment).items() if not name.endswith(".part")}
        outcomes.append((kept, tails, [info.end_offset for info in files.ledgers()], len(read_all(files)[0])))
        if 0 < calls[0] < call:
            break
    assert call > 8
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_after_a_crash_at_any_step_of_a_creation_the_next_incarnation_begins_its_own_ledger(tmp_path, monkeypatch):
    for call in range(1, 200):
        directory = tmp_path / f"b{call}"
        write(directory, run_of(2))
        files = ledger_files(directory)
        with monkeypatch.context() as patch:
            calls = crashing_at(call, patch)
            with contextlib.suppress(Crash):
                files.create(1)
        again = ledger_files(directory)
        ledger = again.create(again.next_epoch)
        again.append([events(0, 0)])
        again.sync()
        assert [record.number for record in read_all(again, ledger)[0]] == [0]
        assert [record.number for record in read_all(again)[0]] == [1, 2]
        assert all(info.damage == () for info in again.ledgers())
        if calls[0] < call:
            break
    assert call > 4
