"""Checks of disk, memory, descriptors, and of what killed runs left behind."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from fedbus.clock import SystemClock
from fedbus.options import FederationOptions
from fedbus_actors import run_directory
from fedbus_actors.cli.finding import Finding, graded

GIB = 2**30
FREE_WARN_BYTES, FREE_FAIL_BYTES = 5 * GIB, GIB // 2
FSYNC_WARN_MS = 20.0
FSYNCS = 20
SHARED_BYTES = 128 * 2**20  # Ray's object store, as small as we ask for it, and some room
MEMORY_WARN_BYTES, MEMORY_FAIL_BYTES = 2 * GIB, GIB
OPEN_FILES = 4096


def data_directory(options: FederationOptions) -> Iterator[Finding]:
    """Writable, with room, and how long until something is durable: the floor of every publish."""
    root = options.data.root
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    remedy = "make it writable, or choose another with data.directory (FEDBUS_DATA__DIRECTORY)"
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".fedbus-doctor-") as file:
            took_ms = _fsync_ms(file.fileno())
    except OSError as error:
        yield Finding("fail", "data directory", f"{root}: {error.strerror}", remedy)
        return
    free = shutil.disk_usage(place).free
    few = "free some space" if free < FREE_WARN_BYTES else ""
    yield Finding(
        graded(free, FREE_WARN_BYTES, FREE_FAIL_BYTES), "data directory", f"{root}, {free / GIB:.1f} GiB free", few
    )
    slow = f"publishing waits for it: a disk below {FSYNC_WARN_MS:.0f} ms helps" if took_ms > FSYNC_WARN_MS else ""
    yield Finding("warn" if slow else "ok", "fsync", f"{took_ms:.2f} ms (median of {FSYNCS} × 4 KiB)", slow)


def _fsync_ms(descriptor: int) -> float:
    clock, block, took_ns = SystemClock(), bytes(4096), []
    for _ in range(FSYNCS):
        began_ns = clock.monotonic_ns()
        os.write(descriptor, block)
        os.fdatasync(descriptor)
        took_ns.append(clock.monotonic_ns() - began_ns)
    return statistics.median(took_ns) / 1e6


def shared_memory() -> Iterator[Finding]:
    """Where Ray's object store lives."""
    place = Path("/dev/shm")  # noqa: S108 - that of the system, looked at only
    if not place.is_dir():
        return
    free = shutil.disk_usage(place).free
    remedy = "" if free >= SHARED_BYTES else "Ray will use slower files: in Docker, start with --shm-size=256m"
    yield Finding("warn" if remedy else "ok", str(place), f"{free / 2**20:,.0f} MiB free", remedy)


def memory() -> Iterator[Finding]:
    """A local federation of three regions takes about 1.4 GB."""
    free = psutil.virtual_memory().available
    verdict = graded(free, MEMORY_WARN_BYTES, MEMORY_FAIL_BYTES)
    yield Finding(verdict, "memory", f"{free / GIB:.1f} GiB available", "" if verdict == "ok" else "2 GiB should be")


def open_files() -> Iterator[Finding]:
    """Sockets of clients and segment files are descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = soft != resource.RLIM_INFINITY and soft < OPEN_FILES
    remedy = f"ulimit -n {OPEN_FILES} before fedbus up: each client takes one" if low else ""
    yield Finding("warn" if low else "ok", "open files", f"{soft:,} at most", remedy)


def leftovers() -> Iterator[Finding]:
    """Run directories whose owner was killed, with what may still run from them."""
    found = run_directory.stale(run_directory.parent())
    if found:
        names = ", ".join(path.name for path in found)
        yield Finding(
            "warn", "leftovers", f"{names}, of killed runs", "fedbus down clears them away, fedbus up does, too"
        )
    else:
        yield Finding("ok", "leftovers", "none")
