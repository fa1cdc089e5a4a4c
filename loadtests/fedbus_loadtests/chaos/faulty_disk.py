"""A disk that fails when told to: this process's calls that write and sync answer as a broken, full or slow disk does.

Works without privileges and without a compiler. It has to be installed before the storage modules are imported (they
remember ``os.fdatasync``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

import msgspec

from fedbus.batch import Buffer


class DiskFaults(msgspec.Struct, frozen=True):
    """``sync_fails``: every sync is answered EIO. ``room_bytes``: so much can still be written (-1: no end of room).

    ``sync_ms``: how much longer every sync takes.
    """

    sync_fails: bool = False
    room_bytes: int = -1
    sync_ms: int = 0


class FaultyDisk:
    """Stands between this process and its disks."""

    def __init__(self) -> None:
        self._faults = DiskFaults()
        self._room_bytes = -1
        self._pause = Event()  # never set: waiting for it is how a slow disk takes its time

    def become(self, faults: DiskFaults) -> None:
        """From now on."""
        self._room_bytes = faults.room_bytes
        self._faults = faults

    def install(self) -> None:
        """Put this between the process and ``os``."""
        os.fdatasync = self._syncing(os.fdatasync)  # type: ignore[assignment]
        os.fsync = self._syncing(os.fsync)  # type: ignore[assignment]
        pwrite, pwritev, open_ = os.pwrite, os.pwritev, os.open

        def limited_pwrite(fd: int, data: Buffer, position: int) -> int:
            return pwrite(fd, memoryview(data)[: self._take(len(data))], position)

        def limited_pwritev(fd: int, buffers: Sequence[Buffer], position: int, flags: int = 0) -> int:
            if self._room_bytes < 0:
                return pwritev(fd, buffers, position, flags)
            data = b"".join(buffers)
            return pwrite(fd, data[: self._take(len(data))], position)

        def limited_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & os.O_CREAT and self._room_bytes == 0 and not os.path.exists(path):  # noqa: PTH110 - str or Path
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return open_(path, flags, *arguments, **options)

        os.pwrite, os.pwritev, os.open = limited_pwrite, limited_pwritev, limited_open  # type: ignore[assignment]

    def _syncing(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def faulty(fd: int) -> None:
            if self._faults.sync_ms:
                self._pause.wait(self._faults.sync_ms / 1000)
            if self._faults.sync_fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync(fd)

        return faulty

    def _take(self, wanted: int) -> int:
        """How many of these bytes there is room for; a full disk writes short before it refuses."""
        if self._room_bytes < 0:
            return wanted
        if not self._room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(wanted, self._room_bytes)
        self._room_bytes -= taken
        return taken
