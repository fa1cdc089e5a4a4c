"""A small file system, for what happens when it is full."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    mount = shutil.which("mount")
    target = tmp_path / "disk"
    target.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", "size=1m", "fedbus-test", str(target)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system takes root")
    yield target
    subprocess.run([str(shutil.which("umount")), "--lazy", str(target)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room at all; returns the file that has to go to make some."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return ballast
