"""One group commit over all ledgers: each file is synced once; copies are refused and fail each for itself."""

import errno
import os
import threading
from pathlib import Path

from fedbus.batch import BatchBuilder
from fedbus.broker.copy_effects import (
    BeginLedger,
    BeginRefused,
    CopyDurable,
    CopyFailed,
    CopyRefused,
    LedgerBegun,
    Note,
    Noted,
    WriteCopy,
)  # fmt: skip
from fedbus.broker.effects import Durable, Write, WriteFailed, WriteRefused
from fedbus.limits import DEFAULT
from fedbus.storage.committer import Committer
from tests.small_disk import fill
from tests.storage.test_committer import DEADLINE_S, Results, writing
from tests.storage.written import COPY, append_copy, events, ledger_files, raw_of, read_all, record_of, run_of, seen

OTHER = "here/b3/2"


def copies(ledger: str, records) -> list[WriteCopy]:
    return [WriteCopy(ledger, record) for record in records]


class FailingSync:
    """fdatasync that fails for the files of one ledger, once told to."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.failing = False
        self.tries = 0

    def __call__(self, fd: int) -> None:
        if self.failing and self.part in Path(f"/proc/self/fd/{fd}").readlink().as_posix():
            self.tries += 1
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(fd)


def test_one_turn_writes_all_ledgers_and_syncs_each_file_once(tmp_path):
    busy, free = threading.Event(), threading.Event()
    synced: list[str] = []

    def fdatasync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().parent.relative_to(tmp_path).as_posix())
        busy.set()
        assert free.wait(DEADLINE_S)
        os.fdatasync(fd)

    files, results, committer = writing(tmp_path, fdatasync=fdatasync)
    own, first, second = run_of(50), run_of(30), run_of(20)
    committer.submit(Write(own[0]))
    assert busy.wait(DEADLINE_S)
    for at in range(1, 51):
        for command in (Write(own[at]), *copies(COPY, first[at - 1 : at]), *copies(OTHER, second[at - 1 : at])):
            committer.submit(command)
    free.set()
    committer.close()
    assert synced == ["ledgers/0", "ledgers/0", "copies/here/b2/7", "copies/here/b3/2"]
    assert results.all == [Durable(0), Durable(50), CopyDurable(COPY, 30), CopyDurable(OTHER, 20)]
    for ledger, records in (("here/b1/0", own), (COPY, first), (OTHER, second)):
        assert [seen(record) for record in raw_of(files, ledger)] == [seen(record) for record in records]


def test_each_run_is_answered_for_itself(tmp_path):
    records = run_of(9)
    _, results, committer = writing(tmp_path)
    committer._commit(copies(COPY, [*records[6:8], *records[:3], records[8], records[3]]))
    assert sorted(result.number for result in results.all) == [3, 8]
    committer._commit(copies(COPY, records[4:6]))
    assert results.all[-1] == CopyDurable(COPY, 5)
    committer._commit(copies(COPY, records[9:]))  # the runs have met
    assert results.all[-1] == CopyDurable(COPY, 9)
    committer.close()


def test_a_sync_that_fails_stops_that_copy_only_and_is_never_tried_again(tmp_path):
    sync = FailingSync("copies/here/b2")
    files, results, committer = writing(tmp_path, fdatasync=sync)
    own, records = run_of(4), run_of(4)
    committer._commit([Write(own[0]), *copies(COPY, records[:2]), *copies(OTHER, records[:2])])
    sync.failing = True
    committer._commit([Write(own[1]), *copies(COPY, records[2:3]), *copies(OTHER, records[2:3])])
    assert [type(result) for result in results.all[-3:]] == [Durable, CopyFailed, CopyDurable]
    sync.failing = False
    committer._commit([Write(own[2]), *copies(COPY, records[2:4]), *copies(OTHER, records[3:4])])
    failed = next(result for result in results.all if isinstance(result, CopyFailed))
    assert (failed.ledger, results.all.count(failed), sync.tries) == (COPY, 2, 1)
    assert results.all[-1] == CopyDurable(OTHER, 3)
    assert [record.number for record in raw_of(files)] == [0, 1]  # what is durable can be read
    committer.close()
    files.close()


def test_a_sync_of_the_own_ledger_that_fails_leaves_copies_alone(tmp_path):
    sync = FailingSync("ledgers/0")
    files, results, committer = writing(tmp_path, fdatasync=sync)
    sync.failing = True
    committer._commit([Write(run_of(0)[0]), *copies(COPY, run_of(2))])
    assert [type(result) for result in results.all] == [WriteFailed, CopyDurable]
    committer.close()
    files.close()


def test_a_copy_that_contradicts_itself_fails_alone(tmp_path):
    _, results, committer = writing(tmp_path)
    committer._commit([*copies(COPY, [*run_of(1), events(2, 99)]), *copies(OTHER, run_of(1))])
    assert [type(result) for result in results.all] == [CopyFailed, CopyDurable]
    assert "does not follow" in results.all[0].detail
    committer.close()


def test_a_full_disk_refuses_the_copy_which_goes_on_when_there_is_space(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    files, results, committer = writing(small_disk)
    big = [events(n, 2 * n - 2, payload=bytes(300_000)) for n in (3, 4)]
    committer._commit(copies(COPY, run_of(2)))
    committer._commit([*copies(COPY, big), Write(run_of(0)[0])])
    refused, durable = results.all[-2:]
    assert (refused.ledger, refused.number, durable) == (COPY, 3, Durable(0))
    assert "No space left" in refused.detail
    committer._commit(copies(COPY, [events(5, 8)]))  # on its way before the refusal was known: no run of its own
    assert isinstance(results.all[-1], CopyRefused)
    assert results.all[-1].number == 3
    assert len(files.get(COPY).runs) == 1
    committer._commit(copies(COPY, big))
    assert isinstance(results.all[-1], CopyRefused)
    ballast.unlink()
    committer._commit(copies(COPY, [*big, events(5, 8)]))
    assert results.all[-1] == CopyDurable(COPY, 5)
    committer.close()
    crashed = files
    files = ledger_files(small_disk)
    assert [record.number for record in raw_of(files)] == [0, 1, 2, 3, 4, 5]
    assert files.on_disk()[-1].damaged == ()
    crashed.close()
    files.close()


def test_after_a_refusal_the_copy_may_become_a_member_again_further_on(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    files, results, committer = writing(small_disk)
    committer._commit([Note(record_of()), *copies(COPY, run_of(1))])
    committer._commit(copies(COPY, [events(2, 2, payload=bytes(500_000))]))
    ballast.unlink()
    committer._commit([Note(record_of(version=2)), *copies(COPY, [events(7, 12)])])
    assert results.all[-2:] == [Noted(COPY, 2), CopyDurable(COPY, 7)]
    assert [(run.start.number, run.end.number) for run in files.get(COPY).runs] == [(0, 2), (7, 8)]
    committer.close()
    files.close()


def test_a_copy_that_cannot_even_begin_is_refused_and_begins_later(small_disk):
    files, results, committer = writing(small_disk)
    ballast = fill(small_disk)
    for command in (*copies(COPY, run_of(1)), Note(record_of()), *copies(COPY, run_of(1))):
        committer.submit(command)
    results.wait_for(lambda r: len(results.all) >= 2)
    assert {type(result) for result in results.all} == {CopyRefused}
    assert {result.number for result in results.all} == {0}
    ballast.unlink()
    results.wait_for(lambda r: r == Noted(COPY, 1))  # tried again by itself
    committer.submit(WriteCopy(COPY, run_of(1)[0]))
    results.wait_for(lambda r: r == CopyDurable(COPY, 0))
    committer.close()
    files.close()


# -- the own ledger is rolled ------------------------------------------------------------------------------------------


def test_the_own_ledger_is_rolled_under_load_without_a_restart(tmp_path):
    files = ledger_files(tmp_path)
    results = Results()
    committer = Committer(files, results, limits=DEFAULT, hand_over=print)
    ending = threading.Event()
    read: dict[str, list] = {}

    def follow() -> None:
        while not ending.is_set():
            for info in files.ledgers():
                read[info.id] = read_all(files, info.id)[0]

    thread = threading.Thread(target=follow)
    thread.start()
    for epoch in range(5):
        committer.submit(BeginLedger(f"here/b1/{epoch}"))
        for record in run_of(100):
            committer.submit(Write(record))
    committer.close()
    ending.set()
    thread.join()
    begun = [at for at, result in enumerate(results.all) if isinstance(result, LedgerBegun)]
    assert len(begun) == 5
    for at in begun[1:]:
        assert results.all[at - 1] == Durable(100)  # all of the old one is durable before the next begins
    for epoch in range(5):
        records = read_all(files, f"here/b1/{epoch}")[0]
        assert [record.number for record in records] == list(range(1, 101))
        assert all(seen(a) == seen(b) for a, b in zip(read.get(f"here/b1/{epoch}", []), records, strict=False))
    assert not list(tmp_path.glob("ledgers/[0-3]/*.part"))
    assert len(list(tmp_path.glob("ledgers/[0-3]/*.idx"))) == 4


def test_a_ledger_that_the_disk_refuses_leaves_the_one_before_open(small_disk):
    files, results, committer = writing(small_disk)
    committer._commit([Write(run_of(0)[0])])
    ballast = fill(small_disk)
    committer._commit([BeginLedger("here/b1/1")])
    assert isinstance(results.all[-1], BeginRefused)
    committer._commit([Write(events(1, 0))])
    assert isinstance(results.all[-1], WriteRefused)
    ballast.unlink()
    committer._commit([Write(events(1, 0), 1), BeginLedger("here/b1/1"), Write(run_of(0)[0], 1)])
    assert results.all[-3:] == [Durable(1, 1), LedgerBegun("here/b1/1"), Durable(0, 1)]
    assert [info.next_number for info in files.ledgers()] == [2, 1]
    committer.close()
    files.close()


def test_a_closed_ledger_takes_no_writes_of_its_former_writer(tmp_path):
    files, results, committer = writing(tmp_path)
    committer._commit([Write(run_of(0)[0]), Note(record_of("here/b1/0", version=2, end=1)), Write(events(1, 0))])
    assert isinstance(results.all[-1], WriteFailed)
    assert [record.number for record in raw_of(files, "here/b1/0")] == [0]
    committer.close()


def test_topics_and_the_newest_time_of_a_ledger_are_known_without_reading_it(tmp_path):
    files = ledger_files(tmp_path)
    number = 0
    for names in (["a.b", "a.c"], ["d"]), [f"many.{n}" for n in range(300)]:
        for topics in names if isinstance(names, tuple) else [names]:
            builder = BatchBuilder()
            for topic in topics:
                builder.add(topic, 0, b"x")
            offset = files.get(COPY).end.offset if number else 0
            append_copy(files, [events(number, offset, count=len(topics), index=builder.build().index_bytes)])
            number += 1
        files.get(COPY).seal()
        found = next(info for info in files.ledgers() if info.id == COPY)
        assert found.newest_ms == 1_000 + number - 1
        if number == 2:
            assert found.topics == ("a.b", "a.c", "d")
    assert found.topics == ("a.b", "a.c", "d", "many.>")
    files.close()
    assert ledger_files(tmp_path).ledgers()[0].topics == found.topics
