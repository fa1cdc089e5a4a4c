"""Histories on disk: written line by line, read back after a kill, merged by time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fedbus.clock import ManualClock
from fedbus.errors import ConfigurationError
from fedbus_loadtests.chaos.entry import Entry, decode, encode
from fedbus_loadtests.chaos.history import read_histories, read_history
from fedbus_loadtests.chaos.recorder import Recorder


def recorded(path, process, times_s):
    clock = ManualClock()
    recorder = Recorder(path, process, clock)
    for second in times_s:
        clock.advance(second - clock.monotonic_ns() / 1e9)
        recorder.write("ok", "deliver", id=f"{process}@{second}", position="r/i/0:3")
    recorder.close()


def test_an_entry_is_read_back_as_it_was_written():
    entry = Entry(time_ns=1, process="p", kind="ok", operation="publish", id="é\n", position="r/i/7:42", crc=2**32 - 1)
    assert decode(encode(entry)) == entry
    assert (entry.ledger, entry.offset) == ("r/i/7", 42)


def test_histories_merge_by_time(tmp_path):
    recorded(tmp_path / "a.jsonl", "a", [1, 4, 5])
    recorded(tmp_path / "b.jsonl", "b", [2, 3, 6])
    assert [entry.id for entry in read_histories([tmp_path])] == ["a@1", "b@2", "b@3", "a@4", "a@5", "b@6"]


def test_the_unfinished_last_line_of_a_killed_process_says_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    recorded(path, "a", [1, 2])
    path.write_bytes(path.read_bytes()[:-5])
    assert [entry.id for entry in read_history(path)] == ["a@1"]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    recorded(path, "a", [1])
    path.write_bytes(b'{"time_ns": 1\n' + path.read_bytes())
    with pytest.raises(ConfigurationError, match=r"a\.jsonl:1 is no line of a history"):
        read_history(path)


def test_no_files_are_no_history(tmp_path):
    with pytest.raises(ConfigurationError, match="no history files"):
        list(read_histories([tmp_path]))


def check(*arguments):
    command = [sys.executable, "-m", "fedbus_loadtests.chaos", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_judges_and_its_status_tells(tmp_path):
    from tests.loadtests.chaos.model import ModelledBus

    entries = ModelledBus(3).run(300)
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(b"".join(map(encode, entries)))
    bad.write_bytes(b"".join(encode(e) for e in entries if not (e.operation == "deliver" and e.id == "p0/1")))
    assert (check(good).returncode, check(bad).returncode) == (0, 1)
    assert "every invariant held" in check(good).stdout
    assert "VIOLATED: V1" in check(bad).stdout
