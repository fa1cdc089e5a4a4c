"""Notes of ledger records, and the cut at a closed ledger's end: after a crash, a refusal or a kill at any step."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedbus.broker.record import Kind, ledger_seed
from fedbus.storage.ledger_note import NOTE
from fedbus.storage.quarantine import QUARANTINE
from fedbus.storage.segment_index import index_path
from tests.storage.written import (
    COPY,
    append_copy,
    copy_path,
    crash,
    events,
    ledger_files,
    numbers,
    on_disk,
    raw_of,
    record_of,
    run_of,
    runs_of,
    seen,
    state,
)

# -- notes and the cut -------------------------------------------------------------------------------------------------


def test_a_note_survives_and_older_ones_change_nothing(tmp_path):
    files = ledger_files(tmp_path)
    held = files.hold(COPY)
    assert held.note(record_of(version=2, term=1)).version == 2
    assert held.note(record_of(version=9)).version == 2
    files.close()
    files = ledger_files(tmp_path)
    assert on_disk(files).record == record_of(version=2, term=1)
    assert files.get(COPY).note(record_of(version=3, term=1)).version == 3


def test_a_note_that_is_damaged_at_any_byte_is_none(tmp_path):
    ledger_files(tmp_path).hold(COPY).note(record_of())
    path = copy_path(tmp_path) / NOTE
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert on_disk(ledger_files(tmp_path)).record is None
        path.write_bytes(good[:at])
        assert on_disk(ledger_files(tmp_path)).record is None
    path.write_bytes(good)
    assert on_disk(ledger_files(tmp_path)).record == record_of()


@pytest.mark.parametrize("end", range(12))
def test_a_closed_ledger_is_cut_at_its_end_and_what_was_beyond_is_kept_aside(tmp_path, end):
    records = [*run_of(4), state(Kind.SNAPSHOT, 5, 8), *(events(n, 2 * n - 4) for n in range(6, 11))]
    files = ledger_files(tmp_path)
    held = append_copy(files, records[:5])
    held.seal()
    append_copy(files, records[5:])
    whole = b"".join(path.read_bytes() for path in sorted(copy_path(tmp_path).glob("*.seg")))
    held.note(record_of(version=2, end=end))
    for _ in range(2):
        assert runs_of(files) == ([(0, min(end, 11))] if end else [])
        assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records[:end]]
        left = b"".join(path.read_bytes() for path in sorted(copy_path(tmp_path).glob("*.seg")))
        aside = b"".join(path.read_bytes() for path in sorted((copy_path(tmp_path) / QUARANTINE).glob("*.tail")))
        assert sorted(left + aside) == sorted(whole)
        files.close()
        files = ledger_files(tmp_path)
        assert on_disk(files).record.end_number == end
    append_copy(files, records[end:])  # (a core would not:) what was cut does not stand in the way
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records]


class Crash(BaseException):
    """The machine stops here."""


CRASH_POINTS = ("fsync", "ftruncate", "pwrite", "rename", "mkdir", "open", "unlink", "link")


def crashing_at(call: int, monkeypatch, error: type[Crash] | OSError = Crash) -> list[int]:
    calls = [0]

    def stop_before(real):
        def wrapped(*args, **kwargs):
            calls[0] += 1
            if calls[0] == call:
                raise error
            return real(*args, **kwargs)

        return wrapped

    for name in CRASH_POINTS:
        monkeypatch.setattr(os, name, stop_before(getattr(os, name)))
    return calls


def test_a_crash_at_any_step_of_a_cut_leaves_a_copy_that_is_cut_again(tmp_path, monkeypatch):
    records = [*run_of(4), state(Kind.SNAPSHOT, 5, 8), *(events(n, 2 * n - 4) for n in range(6, 9))]
    for call in range(1, 200):
        directory = tmp_path / str(call)
        files = ledger_files(directory)
        held = append_copy(files, records[:5])
        held.note(record_of())
        held.seal()
        append_copy(files, records[5:])
        with monkeypatch.context() as patch:
            calls = crashing_at(call, patch)
            with contextlib.suppress(Crash):
                held.note(record_of(version=2, end=3))
        crash(files)
        files = ledger_files(directory)
        found = on_disk(files)
        assert found.damaged == ()
        if found.record.end_number is None:  # not noted: some of it may be there still, all below the end is
            assert [seen(record) for record in raw_of(files)][:3] == [seen(record) for record in records[:3]]
        else:
            assert runs_of(files) == [(0, 3)]
        assert files.get(COPY).note(record_of(version=2, end=3)).version == 2
        assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records[:3]]
        kept = b"".join(
            path.read_bytes() for path in copy_path(directory).rglob("*") if path.suffix in (".seg", ".tail")
        )
        for record in records:
            assert b"".join(bytes(part) for part in record.buffers()[1:]) in kept
        if calls[0] < call:
            break
    assert call > 8


@pytest.mark.parametrize("call", range(1, 40))
def test_a_cut_that_the_disk_refuses_at_any_step_is_finished_later_by_the_same_process(tmp_path, monkeypatch, call):
    records = [*run_of(4), state(Kind.SNAPSHOT, 5, 8), *(events(n, 2 * n - 4) for n in range(6, 9))]
    files = ledger_files(tmp_path)
    held = append_copy(files, records[:5])
    held.seal()
    append_copy(files, records[5:])
    with monkeypatch.context() as patch:
        crashing_at(call, patch, OSError(errno.ENOSPC, "No space left on device"))
        with contextlib.suppress(OSError):
            held.note(record_of(version=2, end=3))
    held.note(record_of(version=2, end=3))
    assert [seen(record) for record in raw_of(files)] == [seen(record) for record in records[:3]]
    files.close()
    assert runs_of(ledger_files(tmp_path)) == [(0, 3)]


def test_what_a_failed_sync_left_beyond_the_end_is_cut_when_it_is_found(tmp_path):
    files = ledger_files(tmp_path)
    held = append_copy(files, run_of(3))
    held.note(record_of(version=2, end=3))
    crash(files)
    [segment] = copy_path(tmp_path).glob("*.seg")
    index_path(segment).unlink()
    records = run_of(3)
    with segment.open("ab") as file:
        file.write(b"".join(bytes(part) for part in records[3].buffers(ledger_seed(COPY))))
    assert runs_of(ledger_files(tmp_path)) == [(0, 3)]


NOTER = """
import sys
from pathlib import Path
from tests.storage.written import append_copy, events, ledger_files, record_of, run_of
files = ledger_files(Path(sys.argv[1]))
files.hold("here/b2/7").note(record_of())
append_copy(files, run_of(20))
for version in range(2, 10**6):
    records = [events(n, 2 * n - 2, payload=bytes(3000)) for n in range(21, 40)]
    append_copy(files, records)
    end = 21 + version % 10
    files.get("here/b2/7").note(record_of(version=version, end=end))
    print(version, end, flush=True)
    files.get("here/b2/7").note(record_of(version=version, term=1000 + version, end=21))
    files.get("here/b2/7").record = None
"""


@pytest.mark.parametrize("lines", [1, 5, 23])
def test_a_note_that_was_answered_survives_a_kill(tmp_path, lines):
    process = subprocess.Popen(
        [sys.executable, "-c", NOTER, str(tmp_path)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE
    )
    for _ in range(lines):
        version = int(process.stdout.readline().split()[0])
    process.send_signal(signal.SIGKILL)
    process.stdout.read()
    assert process.wait() == -signal.SIGKILL
    files = ledger_files(tmp_path)
    assert on_disk(files).record.version >= version
    assert numbers(raw_of(files))[:21] == list(range(21))
    assert on_disk(files).damaged == ()
