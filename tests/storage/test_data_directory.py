"""The data directory is private, versioned, and belongs to one process at a time."""

import os
import signal
import subprocess
import sys

import pytest

from fedbus.errors import EnvironmentUnusableError
from fedbus.storage.data_directory import DataDirectory, InstanceDirectory

HOLD_LOCK = """
import sys
from pathlib import Path
from fedbus.storage.data_directory import DataDirectory
lock = DataDirectory(Path(sys.argv[1]), "local").region("onprem.berlin").lock().acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_the_layout_is_the_documented_one(tmp_path):
    region = DataDirectory(tmp_path / "data", "local").region("onprem.berlin")
    instance = region.instance("b1")
    assert region.store_path == tmp_path / "data/local/onprem.berlin/store.db"
    assert instance.path == tmp_path / "data/local/onprem.berlin/instances/b1"
    assert region.instances() == ["b1"]


def test_everything_is_private(tmp_path):
    instance = DataDirectory(tmp_path / "data", "local").region("onprem.berlin").instance("b1")
    for path in (instance.path, *list(instance.path.parents)[:5]):
        if path != tmp_path:
            assert path.stat().st_mode & 0o777 == 0o700, path


def test_an_instance_directory_keeps_its_identity(tmp_path):
    first = InstanceDirectory(tmp_path / "b1")
    assert InstanceDirectory(tmp_path / "b1").uuid == first.uuid
    assert InstanceDirectory(tmp_path / "b2").uuid != first.uuid


def test_an_unknown_version_is_refused_and_left_as_it_is(tmp_path):
    path = DataDirectory(tmp_path, "local").path
    (path / "VERSION").write_text("99\n")
    with pytest.raises(EnvironmentUnusableError, match="format '99' is unknown"):
        DataDirectory(tmp_path, "local")
    assert (path / "VERSION").read_text() == "99\n"


def test_somebody_elses_directory_is_refused(tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "thesis.tex").write_text("")
    with pytest.raises(EnvironmentUnusableError, match=r"thesis\.tex but no VERSION"):
        DataDirectory(tmp_path, "local")


def test_a_crash_while_it_was_made_does_no_harm(tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / ".new-1234").write_text("")
    DataDirectory(tmp_path, "local")


def test_a_damaged_identity_is_refused(tmp_path):
    path = InstanceDirectory(tmp_path / "b1").path
    (path / "UUID").write_text("??\n")
    with pytest.raises(EnvironmentUnusableError, match="is no UUID"):
        InstanceDirectory(path)


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_a_place_that_cannot_be_written_is_refused_with_a_remedy(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnusableError, match=r"FEDBUS_DATA__DIRECTORY"):
        DataDirectory(tmp_path / place, "local")


def test_a_second_user_is_refused_by_the_first_ones_process_id(tmp_path):
    directory = DataDirectory(tmp_path, "local").region("onprem.berlin")
    with directory.lock() as lock:
        assert lock.holder() == os.getpid()
        with pytest.raises(EnvironmentUnusableError, match=f"in use by process {os.getpid()}"):
            directory.lock().acquire()
    with directory.lock():
        pass
    assert directory.lock().holder() is None


def test_a_killed_process_leaves_no_lock(tmp_path):
    directory = DataDirectory(tmp_path, "local").region("onprem.berlin")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(EnvironmentUnusableError, match=f"in use by process {process.pid}"):
            directory.lock().acquire()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        with directory.lock() as lock:
            assert lock.held
