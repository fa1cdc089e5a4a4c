"""The data directory: where everything lives that outlives a process, and who may use it.

    <data>/<federation>/VERSION
    <data>/<federation>/<region>/store.db, lock
    <data>/<federation>/<region>/instances/<id>/VERSION, UUID, lock, …

Every directory is private (0700) and its entry is on disk before it is used. A lock is the kernel's (``flock``), so it
ends with the process that holds it, however that ends; it is the fence of rule 7. Assumes a local file system. What
lies inside an instance's directory is left to the ledger files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from fedbus.errors import EnvironmentUnusableError
from fedbus.storage.durable import fsync_directory

VERSION = 2
_UNFINISHED = ".new-"  # prefix of files that a crash may leave behind
_PRIVATE = 0o700
_PID_BYTES = 10
_REMEDY = "make it writable or choose another with data.directory or FEDBUS_DATA__DIRECTORY"


@contextlib.contextmanager
def _explained(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else _REMEDY
        raise EnvironmentUnusableError(f"{path}: cannot {verb}: {error.strerror or error}; {remedy}") from error


def make_directory(path: Path) -> None:
    """Make a private directory, parents included, durable; one that is there is left as it is."""
    with _explained(path, "be made"):
        _make(path)


def _make(path: Path) -> None:
    if path.is_dir():
        return
    if path.parent != path:
        _make(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=_PRIVATE)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", str(path))
    fsync_directory(path.parent)


def _write_once(path: Path, text: str) -> str:
    """What the file says, having written ``text`` if there was none: of several writers one wins, whole and durable."""
    if not path.exists():
        unfinished = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
        try:
            with unfinished.open("x") as file:
                file.write(f"{text}\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        fsync_directory(path.parent)
    return path.read_text(errors="replace").strip()


def _open_versioned(path: Path) -> None:
    """Make the directory, or check that this version of fedbus made it."""
    make_directory(path)
    with _explained(path, "be used"):
        version = path / "VERSION"
        if not version.exists():
            found = [entry.name for entry in path.iterdir() if not entry.name.startswith(_UNFINISHED)]
            if found and not version.exists():
                raise EnvironmentUnusableError(
                    f"{path}: holds {min(found)} but no VERSION file: not ours; choose an empty directory"
                )
        written = _write_once(version, str(VERSION))
    if written != str(VERSION):
        raise EnvironmentUnusableError(
            f"{version}: format {written[:20]!r} is unknown, this fedbus reads {VERSION}; "
            "run the version that wrote it, or choose another data directory"
        )


class DirectoryLock:
    """Exclusive use of a directory by one process, from :meth:`acquire` to :meth:`release` or the process's end."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> Self:
        """Take the lock at once; EnvironmentUnusableError names the process that has it."""
        assert self._descriptor is None, f"{self.path} is locked already"
        with _explained(self.path, "be opened"):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # In place, so that it needs no room on a full disk.
            os.pwrite(descriptor, f"{os.getpid():<{_PID_BYTES}}\n".encode(), 0)
        except BlockingIOError:
            os.close(descriptor)
            holder = self.holder()
            whose = f"process {holder}" if holder else "another process"
            raise EnvironmentUnusableError(
                f"{self.path.parent}: in use by {whose}; stop it first, or choose another data directory"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise EnvironmentUnusableError(f"{self.path}: cannot be locked: {error.strerror}; {_REMEDY}") from error
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Give the lock back; nothing if it is not held. The file stays: deleting it would split later holders."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, b" " * _PID_BYTES, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        """Process id written by whoever took the lock last and did not give it back; it may have died since."""
        try:
            written = self.path.read_text(errors="replace").strip()
        except OSError:
            return None
        return int(written) if written.isdecimal() else None

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._descriptor is not None

    def __enter__(self) -> Self:
        if not self.held:
            self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class InstanceDirectory:
    """One instance's directory. Its ``uuid`` with the instance's id is a member's identity (rule 2)."""

    def __init__(self, path: Path) -> None:
        """Open ``path``, making it if needed; raises EnvironmentUnusableError."""
        self.path = path
        _open_versioned(path)
        file = path / "UUID"
        with _explained(file, "be used"):
            written = _write_once(file, uuid.uuid4().hex)
        try:
            self.uuid = uuid.UUID(written).hex
        except ValueError:
            raise EnvironmentUnusableError(
                f"{file}: {written[:40]!r} is no UUID; restore the file, for without it this is no copy of any ledger"
            ) from None

    def lock(self) -> DirectoryLock:
        """The lock, not yet taken."""
        return DirectoryLock(self.path)


class RegionDirectory:
    """One region's directory on this machine."""

    def __init__(self, path: Path) -> None:
        """Open ``path``, making it if needed; raises EnvironmentUnusableError."""
        self.path = path
        make_directory(path / "instances")

    @property
    def store_path(self) -> Path:
        """The metadata store's file."""
        return self.path / "store.db"

    def lock(self) -> DirectoryLock:
        """The lock of whoever runs this region here (not yet taken): a second ``fedbus up`` of it is refused."""
        return DirectoryLock(self.path)

    def instance(self, instance: str) -> InstanceDirectory:
        """The directory of an instance, made if needed."""
        return InstanceDirectory(self.instance_path(instance))

    def instance_path(self, instance: str) -> Path:
        """Where that directory is."""
        return self.path / "instances" / instance

    def instances(self) -> list[str]:
        """Ids of the instances that have a directory here."""
        with _explained(self.path, "be read"):
            return sorted(entry.name for entry in (self.path / "instances").iterdir() if entry.is_dir())


class DataDirectory:
    """A federation's directory on this machine."""

    def __init__(self, root: Path, federation: str) -> None:
        """Open ``<root>/<federation>``, making it if needed; raises EnvironmentUnusableError."""
        self.path = root / federation
        _open_versioned(self.path)

    def region(self, region: str) -> RegionDirectory:
        """The directory of a region, made if needed."""
        return RegionDirectory(self.path / region)
