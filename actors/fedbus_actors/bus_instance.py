"""A bus instance: one incarnation of one broker on one directory, as a plain class.

Ray makes an actor of it (``remote.py``); ``python -m fedbus_actors.bus_instance`` runs it in a process of its own. It owns
the directory's lock, recovers its ledgers, opens the next one and runs the broker thread.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event

import click
import msgspec

from fedbus.broker import effects as e
from fedbus.broker.broker import Broker
from fedbus.broker.record import Record
from fedbus.broker.status import BrokerStatus
from fedbus.clock import Clock, SystemClock
from fedbus.errors import FedbusError
from fedbus.limits import Limits
from fedbus.storage.data_directory import DirectoryLock, InstanceDirectory
from fedbus.storage.ledger_files import LedgerFiles
from fedbus.storage.ledger_reader import EventsRead
from fedbus_actors.broker_thread import BrokerThread

CALL_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class InstanceConfig(msgspec.Struct, frozen=True):
    """What an incarnation is started with. ``adopted``: directories of drained instances whose ledgers it serves."""

    region: str
    instance: str
    directory: str
    host: str = "127.0.0.1"
    port: int = 0
    limits: Limits = Limits()
    adopted: dict[str, str] = {}


class HeldLedgers:
    """The ledger files an instance reads: its own, and those of drained instances it has adopted."""

    def __init__(self, own: LedgerFiles) -> None:
        self.own = own
        self._adopted: list[LedgerFiles] = []

    def add(self, files: LedgerFiles) -> None:
        """Read these too."""
        self._adopted.append(files)

    def read(self, ledger: str, offset: int, max_bytes: int) -> EventsRead:
        """As :meth:`LedgerFiles.read`, wherever the ledger is."""
        for files in (*self._adopted, self.own):
            if files is self.own or any(info.id == ledger for info in files.ledgers()):
                return files.read(ledger, offset, max_bytes)
        raise AssertionError("the own files come last")

    def close(self) -> None:
        """Close all files."""
        for files in (*self._adopted, self.own):
            files.close()


class BusInstance:
    """One incarnation. Raises :class:`EnvironmentUnusableError` if the port or the directory cannot be had."""

    def __init__(
        self,
        config: InstanceConfig,
        clock: Clock | None = None,
        on_crash: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.config = config
        self._clock = clock or SystemClock()
        self._locks: list[DirectoryLock] = []
        own = self._open(config.instance, config.directory)
        self._held = HeldLedgers(own)
        epoch = own.next_epoch
        # Adopted state first: what this instance wrote after the adoption is newer.
        closed: dict[str, int] = {}
        state: list[tuple[str, Record]] = []
        for instance, directory in config.adopted.items():
            files = self._open(instance, directory)
            self._held.add(files)
            closed |= _ends(files)
            state += files.state_records()
        closed |= _ends(own)
        state += own.state_records()
        broker = Broker(config.region, f"{config.region}/{config.instance}", own.create(epoch), closed, config.limits)
        crashed = on_crash or _log_crash
        self._thread = BrokerThread(broker, own, self._held, config.host, config.port, self._clock, crashed)
        self.port = self._thread.port
        self._thread.start_core(broker.start(state, self._thread.now_ns()))

    def _open(self, instance: str, path: str) -> LedgerFiles:
        directory = InstanceDirectory(Path(path))
        self._locks.append(directory.lock().acquire())
        files = LedgerFiles(directory.path, self.config.region, instance, self.config.limits, self._now_ms)
        files.open()
        for tail in files.set_aside:
            log.warning("instance %s: a torn tail was set aside in %s", instance, tail)
        for info in files.ledgers():
            for damage in info.damage:
                log.error("instance %s: ledger %s is damaged: %s", instance, info.id, damage)
        return files

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    def status(self) -> BrokerStatus:
        """What the core reports, between two inputs."""
        status: BrokerStatus = self._thread.call(lambda broker: broker.status()).result(CALL_TIMEOUT_S)
        return status

    def apply_table(self, version: int, data: bytes) -> None:
        """A routing table from the manager; older ones than the present are ignored."""
        self._thread.post(e.ApplyTable(version, data))

    def apply_links(self, links: list[e.PeerLink]) -> None:
        """The links to hold from now on."""
        self._thread.post(e.ApplyLinks(links))

    def drain(self) -> None:
        """Take no new batches from now on."""
        self._thread.post(e.Drain())

    def adopt(self, instance: str, directory: str) -> BrokerStatus:
        """Serve the ledgers in a stopped instance's directory; returns when its state is taken over."""
        files = self._open(instance, directory)
        self._held.add(files)
        self._thread.post(e.Adopt(_ends(files), list(files.state_records())))
        return self.status()

    def stop(self) -> None:
        """Write and answer what is under way, close the files, give the directories back."""
        self._thread.stop()
        self._held.close()
        for lock in self._locks:
            lock.release()


def _ends(files: LedgerFiles) -> dict[str, int]:
    return {info.id: info.end_offset for info in files.ledgers()}


def _log_crash(error: BaseException) -> None:
    log.critical("the broker thread has ended: %s", error)


@click.command()
@click.option("--region", default="local.plain", show_default=True, help="Region id.")
@click.option("--instance", default="b1", show_default=True, help="Instance id.")
@click.option("--data", "directory", required=True, help="The instance's directory.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=24000, show_default=True, help="0 takes any free port.")
def main(region: str, instance: str, directory: str, host: str, port: int) -> None:
    """Run one bus instance in this process, without Ray, until SIGINT or SIGTERM."""
    ended = Event()
    crash: list[BaseException] = []

    def crashed(error: BaseException) -> None:
        crash.append(error)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        bus = BusInstance(InstanceConfig(region, instance, directory, host, port), on_crash=crashed)
    except FedbusError as error:
        raise click.ClickException(error.detail) from None
    click.echo(f"tcp://{host}:{bus.port}")
    ended.wait()
    bus.stop()
    if crash:
        raise click.ClickException(f"the broker has ended: {crash[0]}")


if __name__ == "__main__":
    main()
