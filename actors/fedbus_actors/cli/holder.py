"""Who runs which region on this machine: the process that holds the lock of its data directory."""

from __future__ import annotations

from pathlib import Path

import psutil

from fedbus.errors import EnvironmentUnusableError
from fedbus.storage.data_directory import DirectoryLock


def is_free(directory: Path) -> bool:
    """Whether nobody holds the lock; the kernel knows, whatever the lock's file says."""
    try:
        DirectoryLock(directory).acquire().release()
    except EnvironmentUnusableError:
        return False
    return True


def running_process(directory: Path) -> psutil.Process | None:
    """The process that runs the region of this data directory; None if none does.

    Raises EnvironmentUnusableError if the lock is held by a process that cannot be told, or is not ours.
    """
    lock = DirectoryLock(directory)
    if not lock.path.exists() or is_free(directory):
        return None
    holder = lock.holder()
    try:
        process = psutil.Process(holder) if holder is not None else None
        if process is not None and any(Path(file.path) == lock.path.resolve() for file in process.open_files()):
            return process
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        raise EnvironmentUnusableError(
            f"{directory}: used by process {holder}, which belongs to somebody else; ask them, or use their account"
        ) from None
    if is_free(directory):
        return None
    raise EnvironmentUnusableError(f"{lock.path}: locked by a process that cannot be told; `lsof {lock.path}` names it")


def running_regions(directory: Path) -> dict[str, psutil.Process]:
    """By region who runs it, of the federation of this data directory; raises as :func:`running_process`."""
    regions = sorted(lock.parent for lock in directory.glob("*/lock"))
    found = {region.name: running_process(region) for region in regions}
    return {region: process for region, process in found.items() if process is not None}
