"""A disk that fails when told to, in a process of its own: it stays installed for as long as that lives."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import errno, os, sys
from fedbus_loadtests.chaos.faulty_disk import DiskFaults, FaultyDisk
disk = FaultyDisk()
disk.install()
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)

def says(code, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        assert error.errno == code, error
    else:
        raise AssertionError("it went well")

assert os.pwritev(fd, [b"ab", b"cd"], 0) == 4
disk.become(DiskFaults(room_bytes=3))
assert os.pwritev(fd, [b"ef", b"gh"], 4) == 3
says(errno.ENOSPC, os.pwritev, fd, [b"h"], 7)
says(errno.ENOSPC, os.pwrite, fd, b"h", 7)
says(errno.ENOSPC, os.open, sys.argv[1] + ".new", os.O_CREAT)
os.fdatasync(fd)
assert os.pread(fd, 100, 0) == b"abcdefg"
disk.become(DiskFaults(sync_fails=True))
says(errno.EIO, os.fdatasync, fd)
says(errno.EIO, os.fsync, fd)
disk.become(DiskFaults())
os.fsync(fd)
assert os.pwrite(fd, b"h", 7) == 1
"""


def test_it_refuses_fails_and_recovers_as_told(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "file")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
