"""A bus instance: one incarnation of one broker on one directory, as a plain class.

Ray makes an actor of it (``remote.py``); ``python -m fedbus_actors.bus_instance`` runs it in a process of its own. It
owns the directory's lock, recovers its ledgers, opens the next one and runs the broker thread.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event

import click
import msgspec
import zmq

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
from fedbus_actors.router_socket import RouterSocket

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
        self._own = own
        self._adopted: dict[str, LedgerFiles] = {}  # by ledger

    def add(self, files: LedgerFiles) -> None:
        """Read these too."""
        self._adopted |= {info.id: files for info in files.ledgers()}

    def read(self, ledger: str, offset: int, max_bytes: int) -> EventsRead:
        """As :meth:`LedgerFiles.read`, wherever the ledger is."""
        return self._adopted.get(ledger, self._own).read(ledger, offset, max_bytes)


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
        self._files: list[LedgerFiles] = []
        context = zmq.Context()
        try:
            # The address first: an instance that cannot be reached leaves no trace on the disk.
            router = RouterSocket(context, config.host, config.port, config.limits)
            self.port = router.port
            self._start(context, router, on_crash or _log_crash)
        except BaseException:
            context.destroy(linger=0)
            self._release()
            raise

    def _start(
        self, context: zmq.Context[zmq.Socket[bytes]], router: RouterSocket, on_crash: Callable[[BaseException], None]
    ) -> None:
        config = self.config
        own = self._open(config.instance, config.directory)
        self._held = HeldLedgers(own)
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
        name = f"{config.region}/{config.instance}"
        broker = Broker(config.region, name, own.create(own.next_epoch), closed, config.limits)
        self._thread = BrokerThread(broker, context, router, self._clock, on_crash)
        self._thread.start(state, own, self._held)

    def _open(self, instance: str, path: str) -> LedgerFiles:
        directory = InstanceDirectory(Path(path))
        self._locks.append(directory.lock().acquire())
        files = LedgerFiles(directory.path, self.config.region, instance, self.config.limits, self._now_ms)
        files.open()
        self._files.append(files)
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
        return self._apply(None)

    def _apply(self, event: e.Input | None) -> BrokerStatus:
        status: BrokerStatus = self._thread.call(lambda broker: broker.status(), event).result(CALL_TIMEOUT_S)
        return status

    def apply_table(self, version: int, data: bytes) -> None:
        """A routing table from the manager, older ones are ignored; :class:`ProtocolError` if it cannot be read."""
        self._apply(e.ApplyTable(version, data))

    def apply_links(self, links: list[e.PeerLink]) -> None:
        """The links to hold from now on."""
        self._apply(e.ApplyLinks(links))

    def drain(self) -> None:
        """Take no new batches from now on."""
        self._apply(e.Drain())

    def adopt(self, instance: str, directory: str) -> BrokerStatus:
        """Serve the ledgers in a stopped instance's directory; returns when its state is taken over."""
        files = self._open(instance, directory)
        self._held.add(files)
        return self._apply(e.Adopt(_ends(files), list(files.state_records())))

    def stop(self) -> None:
        """Write and answer what is under way, close the files, give the directories back."""
        self._thread.stop()
        self._release()

    def _release(self) -> None:
        for files in self._files:
            files.close()
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
