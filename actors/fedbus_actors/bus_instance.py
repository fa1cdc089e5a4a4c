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

from fedbus.broker.broker import Broker
from fedbus.broker.home import Home
from fedbus.broker.recovery import States
from fedbus.clock import Clock, SystemClock
from fedbus.errors import FedbusError
from fedbus.ledger_record import Member
from fedbus.limits import Limits
from fedbus.position import LedgerId
from fedbus.storage.data_directory import DirectoryLock, InstanceDirectory
from fedbus.storage.ledger_files import LedgerFiles
from fedbus_actors.broker_thread import BrokerThread
from fedbus_actors.execution import ManagerRequest
from fedbus_actors.instance_control import InstanceControl
from fedbus_actors.region_keys import KeyPair, open_keys
from fedbus_actors.router_socket import LinkEndpoint, RouterSocket
from fedbus_actors.zap import AllowList

log = logging.getLogger(__name__)


class InstanceConfig(msgspec.Struct, frozen=True):
    """What an incarnation is started with.

    ``managed``: a manager says which ledgers it writes, copies and serves; else it opens its own and is alone.
    ``keys_directory``: the region's directory, which holds its keys; with it there is a link endpoint for instances of
    other regions at ``link_port`` (0: any free port). The secret one is never part of what is sent or logged;
    ``link_key`` is the public one that has to be found there (empty: any).
    """

    region: str
    instance: str
    directory: str
    host: str = "127.0.0.1"
    port: int = 0
    limits: Limits = Limits()
    managed: bool = False
    keys_directory: str = ""
    link_key: str = ""
    link_port: int = 0


class BusInstance(InstanceControl):
    """One incarnation. Raises :class:`EnvironmentUnusableError` if the port or the directory cannot be had.

    ``on_crash`` is told, in the broker's thread, when it cannot go on; ``on_request`` gets there what is for the
    manager. Neither may block.
    """

    def __init__(
        self,
        config: InstanceConfig,
        clock: Clock | None = None,
        on_crash: Callable[[BaseException], None] | None = None,
        on_request: Callable[[ManagerRequest], None] | None = None,
    ) -> None:
        self.config = config
        self._clock = clock or SystemClock()
        self._lock: DirectoryLock | None = None
        self._files: LedgerFiles | None = None
        context = zmq.Context()
        keys = _keys(config)
        self._allowed = AllowList(context) if keys is not None else None
        try:
            # The address first: an instance that cannot be reached leaves no trace on the disk.
            links = LinkEndpoint(config.link_port, keys, self._allowed) if keys and self._allowed else None
            router = RouterSocket(context, config.host, config.port, config.limits, links)
            self.port, self.link_port = router.port, router.link_port
            directory = InstanceDirectory(Path(config.directory))
            self._lock = directory.lock().acquire()
            self._files = files = self._open(directory.path)
            broker, state = _managed(config, directory, files) if config.managed else _alone(config, files)
            self._thread = BrokerThread(broker, context, router, self._clock, on_crash or _log_crash, keys)
            self._thread.start(state, files, on_request or _log_request)
        except BaseException:
            if self._allowed is not None:
                self._allowed.stop()
            context.destroy(linger=0)
            self._release()
            raise

    def apply_peers(self, keys: dict[str, str]) -> None:
        """Other regions whose instances may connect to the link endpoint from now on, with their public keys (Z85)."""
        if self._allowed is not None:
            self._allowed.admit({key: region for region, key in keys.items()})

    def _open(self, path: Path) -> LedgerFiles:
        instance = self.config.instance
        files = LedgerFiles(path, self.config.region, instance, self.config.limits, self._now_ms)
        files.open()
        for tail in files.set_aside:
            log.warning("instance %s: what was unfinished is set aside in %s", instance, tail)
        for info in files.ledgers():
            for damage in info.damage:
                log.error("instance %s: ledger %s is damaged: %s", instance, info.id, damage)
        return files

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    def stop(self) -> None:
        """Write and answer what is under way, close the files, give the directory back."""
        self._thread.stop()
        self._release()

    def _release(self) -> None:
        if self._files is not None:
            self._files.close()
        if self._lock is not None:
            self._lock.release()


def _keys(config: InstanceConfig) -> KeyPair | None:
    """The region's keys, if it is to link with others."""
    if not config.keys_directory:
        return None
    keys = open_keys(Path(config.keys_directory))
    if config.link_key and keys.public != config.link_key:
        log.error(
            "instance %s: the key in %s is not the region's, whose public key is %s: nothing is linked here. "
            "Copy keys/region.key of the manager's node there and restart the instance",
            config.instance, config.keys_directory, config.link_key,
        )  # fmt: skip
        return None
    return keys


def _alone(config: InstanceConfig, files: LedgerFiles) -> tuple[Broker, States]:
    """It goes on from what its earlier incarnations left, and writes the next ledger as soon as the disk lets it."""
    closed = {info.id: info.end_offset for info in files.ledgers()}
    ledger = str(LedgerId(config.region, config.instance, files.next_epoch))
    name = f"{config.region}/{config.instance}"
    return Broker(config.region, name, ledger, closed, config.limits, begun=False), files.state_records()


def _managed(config: InstanceConfig, directory: InstanceDirectory, files: LedgerFiles) -> tuple[Broker, States]:
    """It writes and serves nothing before the manager says so."""
    name = f"{config.region}/{config.instance}"
    home = Home(Member(name, directory.uuid), files.on_disk())
    return Broker(config.region, name, "", {}, config.limits, home=home), ()


def _log_crash(error: BaseException) -> None:
    log.critical("the broker thread has ended: %s", error)


def _log_request(request: ManagerRequest) -> None:
    log.error("there is no manager to ask for %s", request)


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
