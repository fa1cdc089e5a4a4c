"""Making files and names survive a crash: the order of write, fsync, rename and fsync of the directory.

A file's bytes are durable after its own fsync, its *name* only after an fsync of the directory that holds it. Every
step here can be repeated after a crash in its middle and then ends in the same state.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

# The disk says no and nothing is broken: full, over quota, file size limit.
REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
COPY_BYTES = 1 << 20
PART_SUFFIX = ".part"  # a file not yet complete: overwritten by the next try, never read


def fsync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable. Raises :class:`OSError`."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(directory: Path) -> None:
    """Create ``directory`` (its parent exists) and make its name durable; nothing if it is there."""
    directory.mkdir(exist_ok=True)
    fsync_directory(directory.parent)


def write_all(fd: int, data: bytes, position: int) -> None:
    """Write all of ``data`` at ``position``, however short the single writes are. Raises :class:`OSError`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        position += written
        view = view[written:]


def replace_file(path: Path, data: bytes) -> None:
    """Put a whole file under a name at once: whoever looks sees the old content or the new, also after a crash."""
    part = path.with_name(path.name + PART_SUFFIX)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        write_all(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    part.rename(path)
    fsync_directory(path.parent)


def copy_from(source_fd: int, start: int, target: Path) -> None:
    """Copy a file from byte ``start`` to its end into ``target``, durably and in bounded memory."""
    part = target.with_name(target.name + PART_SUFFIX)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        copied = 0
        while chunk := os.pread(source_fd, COPY_BYTES, start + copied):
            write_all(fd, chunk, copied)
            copied += len(chunk)
        os.fsync(fd)
    finally:
        os.close(fd)
    part.rename(target)
    fsync_directory(target.parent)
