"""The committer: groups become durable together, a full disk refuses and resumes, a failing one stops for good."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedbus.broker.effects import Durable, Read, Records, RollSegment, Write, WriteFailed, WriteRefused
from fedbus.broker.record import Kind
from fedbus.errors import ClosedError
from fedbus.limits import DEFAULT, Limits
from fedbus.storage.committer import Committer
from fedbus.storage.read_worker import Reader
from tests.storage.written import LEDGER, events, ledger_files, read_all, run_of, state

DEADLINE_S = 60


class Results:
    """What the committer or reader answered, and a way to wait for it."""

    def __init__(self) -> None:
        self.all: list = []
        self._came = threading.Condition()

    def __call__(self, result) -> None:
        with self._came:
            self.all.append(result)
            self._came.notify_all()

    def wait_for(self, predicate):
        """The first result that fits."""
        with self._came:
            assert self._came.wait_for(lambda: any(map(predicate, self.all)), DEADLINE_S), self.all
            return next(result for result in self.all if predicate(result))


def writing(directory: Path, **options):
    files = ledger_files(directory, **options)
    files.create(0)
    results = Results()
    return files, results, Committer(files, results, limits=DEFAULT, hand_over=print)


def test_what_waits_while_the_disk_is_busy_becomes_durable_in_one_group(tmp_path):
    busy, free = threading.Event(), threading.Event()
    syncs = []

    def fdatasync(fd: int) -> None:
        syncs.append(fd)
        busy.set()
        assert free.wait(DEADLINE_S)
        os.fdatasync(fd)

    files, results, committer = writing(tmp_path, fdatasync=fdatasync)
    committer.submit(Write(state(Kind.SNAPSHOT, 0, 0)))
    assert busy.wait(DEADLINE_S)
    for number in range(1, 500):
        committer.submit(Write(events(number, 2 * (number - 1))))
    assert committer.depth == 499
    assert committer.depth_bytes == 499 * events(1, 0).size_bytes
    assert results.all == []
    free.set()
    committer.close()
    assert results.all == [Durable(0), Durable(499)]
    assert len(syncs) == 2
    assert committer.depth == committer.depth_bytes == 0
    assert len(read_all(files)[0]) == 499
    with pytest.raises(ClosedError):
        committer.submit(Write(events(500, 998)))


def test_a_roll_between_writes_seals_what_came_before_it(tmp_path):
    files, results, committer = writing(tmp_path)
    for command in (*map(Write, run_of(2)), RollSegment(), RollSegment(), Write(state(Kind.SNAPSHOT, 3, 4))):
        committer.submit(command)
    committer.close()
    assert results.all[-1] == Durable(3)
    names = sorted(path.name for path in (tmp_path / "ledgers" / "0").iterdir())
    assert names == [f"{0:020d}.idx", f"{0:020d}.seg", f"{3:020d}.seg"]
    assert [record.number for _, record in files.state_records()] == [3]


def test_submitting_waits_when_the_core_did_not_keep_to_its_bound(tmp_path):
    free = threading.Event()

    def fdatasync(fd: int) -> None:
        assert free.wait(DEADLINE_S)

    files = ledger_files(tmp_path, fdatasync=fdatasync)
    files.create(0)
    results = Results()
    committer = Committer(files, results, limits=Limits(uncommitted_bytes=500), hand_over=print)
    submitted = []

    def submit() -> None:
        for record in run_of(100):
            committer.submit(Write(record))
            submitted.append(record.number)

    thread = threading.Thread(target=submit)
    thread.start()
    thread.join(timeout=0.2)
    assert thread.is_alive()
    assert len(submitted) < 30
    assert committer.depth_bytes < 1000 + events(1, 0).size_bytes
    free.set()
    thread.join(DEADLINE_S)
    committer.close()
    assert results.all[-1] == Durable(100)


def test_a_full_disk_refuses_drops_the_void_generation_and_resumes_when_there_is_space(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    files, results, committer = writing(small_disk)
    for record in run_of(2):
        committer.submit(Write(record))
    results.wait_for(lambda r: r == Durable(2))

    committer.submit(Write(events(3, 4, payload=bytes(900_000))))
    refused = results.wait_for(lambda r: isinstance(r, WriteRefused))
    assert (refused.number, refused.generation) == (3, 0)
    assert "No space left" in refused.detail
    for number in (4, 5):  # numbered before the core heard of it: void
        committer.submit(Write(events(number, 2 * number - 2)))
    committer.submit(RollSegment())
    assert [record.number for record in read_all(files)[0]] == [1, 2]

    committer.submit(Write(events(3, 4, payload=bytes(900_000)), 1))  # still full
    refused = results.wait_for(lambda r: isinstance(r, WriteRefused) and r.generation == 1)
    assert refused.number == 3
    ballast.unlink()
    committer.submit(Write(events(3, 4, payload=bytes(900_000)), 2))
    results.wait_for(lambda r: r == Durable(3, 2))
    committer.close()
    assert [type(r) for r in results.all if not isinstance(r, Durable)] == [WriteRefused, WriteRefused]
    files.close()
    recovered = ledger_files(small_disk)
    assert recovered.ledgers()[0].damage == ()
    assert [record.number for record in read_all(recovered)[0]] == [1, 2, 3]
    recovered.close()


def test_a_group_in_which_one_record_does_not_fit_leaves_nothing_behind(small_disk):
    files, results, committer = writing(small_disk)
    group = [Write(events(n, 2 * n, payload=bytes(300_000))) for n in range(4)]
    committer._commit(group)
    assert results.all == [results.wait_for(lambda r: isinstance(r, WriteRefused) and r.number == 0)]
    committer.close()
    files.close()
    assert read_all(ledger_files(small_disk)) == ([], 0)


@pytest.mark.parametrize("failing", ["sync", "write"])
def test_an_io_error_stops_the_ledger_and_is_never_tried_again(tmp_path, monkeypatch, failing):
    broken = threading.Event()
    tries = []

    def fail_when_broken(real):
        def wrapped(*args):
            if broken.is_set():
                tries.append(args)
                broken.clear()  # the kernel reports such an error once, and then pretends all is well
                raise OSError(errno.EIO, "Input/output error")
            return real(*args)

        return wrapped

    fdatasync = fail_when_broken(os.fdatasync) if failing == "sync" else os.fdatasync
    files, results, committer = writing(tmp_path, fdatasync=fdatasync)
    if failing == "write":
        monkeypatch.setattr(os, "pwritev", fail_when_broken(os.pwritev))
    for record in run_of(2):
        committer.submit(Write(record))
    results.wait_for(lambda r: r == Durable(2))
    broken.set()
    committer.submit(Write(events(3, 4)))
    failed = results.wait_for(lambda r: isinstance(r, WriteFailed))
    assert "Input/output error" in failed.detail
    committer.submit(Write(events(4, 6)))
    committer.submit(RollSegment())
    committer.submit(Write(events(5, 8)))
    committer.close()
    assert len(tries) == 1
    assert results.all.index(failed) == len([r for r in results.all if isinstance(r, Durable)])
    assert all(isinstance(result, WriteFailed) for result in results.all[results.all.index(failed) :])
    assert [record.number for record in read_all(files)[0]] == [1, 2]
    files.close()


def test_a_bug_in_what_is_written_stops_the_ledger_instead_of_hanging_its_publishers(tmp_path):
    _, results, committer = writing(tmp_path)
    committer.submit(Write(events(7, 0)))
    assert "does not follow" in results.wait_for(lambda r: isinstance(r, WriteFailed)).detail
    committer.close()


def test_reads_are_answered_in_order_and_a_missing_ledger_has_nothing(tmp_path):
    files, _, committer = writing(tmp_path)
    for record in run_of(3):
        committer.submit(Write(record))
    committer.close()
    results = Results()
    reader = Reader(files, results, limits=DEFAULT)
    reader.submit(Read(1, LEDGER, 3, 1))
    reader.submit(Read(2, "here/b1/9", 3, 1))
    reader.submit(Read(3, LEDGER, 0, 1 << 20))
    reader.close()
    assert reader.depth == 0
    first, missing, rest = results.all
    assert (first.token, [r.number for r in first.records], first.next_offset, first.damaged) == (1, [2], 4, 0)
    assert missing == Records(2, [], 3)
    assert [r.number for r in rest.records] == [1, 2, 3]


WRITER = """
import random, sys
from pathlib import Path
from fedbus.broker.effects import RollSegment, Write
from fedbus.limits import DEFAULT
from fedbus.storage.committer import Committer
from tests.storage.written import events, ledger_files
chance = random.Random(int(sys.argv[2]))
files = ledger_files(Path(sys.argv[1]))
files.create(files.next_epoch)
committer = Committer(files, lambda result: print(result.number, flush=True), limits=DEFAULT, hand_over=print)
for number in range(10**9):
    size = chance.choice((10, 300, 5_000, 200_000))
    committer.submit(Write(events(number, 2 * number, payload=b"%d " % number * (size // 8))))
    if chance.random() < 0.02:
        committer.submit(RollSegment())
"""


@pytest.mark.parametrize("run", range(4))
def test_what_was_reported_durable_survives_a_kill_in_the_middle_of_writing(tmp_path, run):
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    ledgers = {}
    for epoch in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(seed + epoch)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        durable = [int(process.stdout.readline()) for _ in range(chance.randrange(1, 60))]
        process.send_signal(signal.SIGKILL)
        durable += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
        assert process.wait() == -signal.SIGKILL
        ledgers[f"here/b1/{epoch}"] = durable[-1]
        files = ledger_files(tmp_path)
        assert [info.id for info in files.ledgers()] == list(ledgers)
        for info in files.ledgers():
            assert info.damage == ()
            got, damaged = read_all(files, info.id)
            assert damaged == 0
            assert [record.number for record in got] == list(range(len(got)))
            assert len(got) > ledgers[info.id], (info.id, seed)
            for record in got:
                word = b"%d " % record.number
                assert record.payload == word * (len(record.payload) // len(word))
        files.close()
