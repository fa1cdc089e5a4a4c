"""A bus instance as it runs under a manager.

Takes its directory over from a dead or hung predecessor, and reports what it uses.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from fedbus.broker.status import BrokerStatus
from fedbus.clock import Clock
from fedbus.errors import EnvironmentUnusableError
from fedbus.storage.data_directory import InstanceDirectory
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from fedbus_actors.execution import ManagerRequest

TAKE_OVER_S = 10.0

log = logging.getLogger(__name__)


class Usage(msgspec.Struct, frozen=True):
    """Resources of one process.

    Share of one core since the last report, resident memory, and the node's network rates.
    """

    cpu_share: float
    memory_bytes: int
    node_received_bytes_per_s: float
    node_sent_bytes_per_s: float


class InstanceReport(msgspec.Struct, frozen=True):
    """What an instance tells its manager each time; ``made_ns`` and ``started_ns`` are its own wall time."""

    status: BrokerStatus
    usage: Usage
    port: int
    pid: int
    directory_uuid: str
    started_ns: int
    made_ns: int
    link_port: int = 0


class PinnedInstance(BusInstance):
    """A :class:`BusInstance` on a directory that belongs to it alone, on the node it is pinned to."""

    def __init__(
        self,
        config: InstanceConfig,
        clock: Clock | None = None,
        on_crash: Callable[[BaseException], None] | None = None,
        on_request: Callable[[ManagerRequest], None] | None = None,
    ) -> None:
        directory = InstanceDirectory(Path(config.directory))
        _fence_predecessor(directory)
        self._directory_uuid = directory.uuid
        super().__init__(config, clock, on_crash, on_request)
        self._started_ns = self._clock.now_ns()
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._network = (self._clock.monotonic_ns(), psutil.net_io_counters())

    def report(self) -> InstanceReport:
        """Status and resource usage."""
        return InstanceReport(
            self.status(), self._usage(), self.port, os.getpid(), self._directory_uuid, self._started_ns,
            self._clock.now_ns(), self.link_port,
        )  # fmt: skip

    def _usage(self) -> Usage:
        before_ns, before = self._network
        self._network = now_ns, now = self._clock.monotonic_ns(), psutil.net_io_counters()
        passed_s = max(1e-3, (now_ns - before_ns) / 1e9)
        return Usage(
            self._process.cpu_percent() / 100,
            self._process.memory_info().rss,
            (now.bytes_recv - before.bytes_recv) / passed_s,
            (now.bytes_sent - before.bytes_sent) / passed_s,
        )


def _fence_predecessor(directory: InstanceDirectory) -> None:
    """With one copy the directory's lock is the fence (rule 7): an incarnation that still holds it is killed first.

    Ray may start a replacement while the old process is only stopped or cut off; it must not wake up and acknowledge.
    """
    lock = directory.lock()
    try:
        lock.acquire()
    except EnvironmentUnusableError:
        holder = lock.holder()
        if holder is None or holder == os.getpid():
            raise
        log.warning("%s is still held by process %d: killing it, it is a former incarnation", directory.path, holder)
        try:
            process = psutil.Process(holder)
            process.send_signal(signal.SIGKILL)
            process.wait(TAKE_OVER_S)
        except psutil.NoSuchProcess:
            pass
        lock.acquire()
    lock.release()
