"""Quarantine: what is cut off or replaced is kept beside the ledger's files, under a name that says what it was.

Nothing is ever deleted here, and nothing overwritten by something else; every step can be repeated after a crash.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from fedbus.storage.durable import COPY_BYTES, PART_SUFFIX, copy_from, fsync_directory, make_directory

QUARANTINE = "quarantine"


def set_file_aside(path: Path) -> Path:
    """Move a whole segment file there; returns where it is."""
    quarantine = path.parent / QUARANTINE
    make_directory(quarantine)
    target = next(name for name in _names(quarantine, path, 0) if not name.exists())
    path.rename(target)
    fsync_directory(quarantine)
    fsync_directory(path.parent)
    return target


def set_tail_aside(path: Path, position: int) -> Path:
    """Move what lies from byte ``position`` on there; returns the file that holds it."""
    quarantine = path.parent / QUARANTINE
    make_directory(quarantine)
    with path.open("r+b", buffering=0) as file:
        fd = file.fileno()
        target = next(n for n in _names(quarantine, path, position) if not n.exists() or _same(fd, position, n))
        copy_from(fd, position, target)
        os.ftruncate(fd, position)
        os.fsync(fd)
    return target


def _names(quarantine: Path, path: Path, position: int) -> list[Path]:
    """Names for a tail, best first: what was set aside before is never overwritten by something else."""
    stem = f"{path.name}.{position}"
    taken = sum(1 for name in quarantine.glob(f"{stem}.*") if name.suffix != PART_SUFFIX)
    return [quarantine / (f"{stem}.tail" if n == 0 else f"{stem}.{n}.tail") for n in range(taken + 1)]


def _same(fd: int, position: int, path: Path) -> bool:
    with path.open("rb", buffering=0) as file:
        for done in count(0, COPY_BYTES):
            ours = os.pread(fd, COPY_BYTES, position + done)
            if ours != os.pread(file.fileno(), COPY_BYTES, done):
                return False
            if len(ours) < COPY_BYTES:
                return True
    return False  # pragma: no cover - the count has no end


def keep_copy(path: Path) -> Path:
    """Keep the file as it is there as well, under another name for the same bytes; returns where."""
    quarantine = path.parent / QUARANTINE
    make_directory(quarantine)
    names = (quarantine / f"{path.name}.{n}.damaged" for n in count())
    target = next(name for name in names if not name.exists())
    os.link(path, target)
    fsync_directory(quarantine)
    return target
