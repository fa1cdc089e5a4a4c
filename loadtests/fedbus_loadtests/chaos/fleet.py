"""The instance processes of a run, by the ids of their instances; each keeps its port through all its incarnations."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from fedbus.limits import KIB, MIB, Limits
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus_loadtests.chaos.faulty_disk import DiskFaults
from fedbus_loadtests.chaos.instance_process import ProcessConfig
from fedbus_loadtests.chaos.steered_instance import OnSaid, SteeredInstance

REGION = "chaos.here"
# Small segments: within seconds some are sealed and can be damaged and read back. More patience than usual with a
# silent replica: a test machine that is busy with other things must not be taken for a region of failing disks.
LIMITS = Limits(
    event_bytes=32 * KIB, batch_bytes=64 * KIB, publish_window_bytes=MIB, read_chunk_bytes=256 * KIB,
    segment_bytes=128 * KIB, replica_silence_ms=600,
)  # fmt: skip


class Fleet:
    """``folder`` gets their directories and logs; ``on_said`` hears what they ask for (``managed`` ones do)."""

    def __init__(self, folder: Path, limits: Limits, on_said: OnSaid, *, managed: bool) -> None:
        self.folder = folder
        self._limits = limits
        self._on_said = on_said
        self._managed = managed
        self._instances: dict[str, SteeredInstance] = {}
        self._ports: dict[str, int] = {}  # also of those that are gone for ever

    def names(self) -> list[str]:
        """Instances that are meant to be running."""
        return list(self._instances)

    def all(self) -> list[SteeredInstance]:
        """Their present processes."""
        return list(self._instances.values())

    def known(self) -> dict[str, str]:
        """The data socket of everyone there ever was."""
        return {name: f"tcp://127.0.0.1:{port}" for name, port in self._ports.items()}

    def directory(self, name: str) -> Path:
        """Where its files are."""
        return self.folder / name

    def start(self, *names: str) -> None:
        """Start these, again or for the first time; returns when they serve."""
        for name in names:
            directory = str(self.directory(name))
            config = ProcessConfig(REGION, name, directory, self._ports.get(name, 0), self._limits, self._managed)
            self._instances[name] = SteeredInstance(config, self.folder, self._on_said)
        for name in names:
            self._ports[name] = self._instances[name].wait()

    def new_name(self) -> str:
        """One that was never used."""
        return f"b{len(self._ports) + 1}"

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self._instances[name].child.kill()

    def drop(self, name: str) -> None:
        """SIGKILL, and it will not be started again."""
        self._instances.pop(name).child.kill()

    def signal(self, name: str, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT."""
        self._instances[name].child.signal(number)

    def disk(self, name: str, faults: DiskFaults) -> None:
        """Its disk behaves like this; one that has died in the meantime comes back with a sound one."""
        if self._instances[name].child.alive:
            self._instances[name].call("disk_faults", faults)

    def ask(self, name: str, method: str, *arguments: Any) -> None:
        """Tell it something, without waiting."""
        self._instances[name].ask(method, *arguments)

    def tend(self) -> bool:
        """Start again whoever has died; whether somebody had."""
        died = [instance.name for instance in self.all() if not instance.child.alive]
        self.start(*died)
        return bool(died)

    def push_table(self, version: int, states: dict[str, str]) -> None:
        """Give everyone a routing table of these instances."""
        known = self.known()
        routes = [InstanceRoute(f"{REGION}/{name}", known[name], state) for name, state in states.items()]
        table = RoutingTable("chaos", REGION, version, [region_route(REGION, routes)])
        for instance in self.all():
            instance.ask("apply_table", version, table.encode())

    def close(self) -> None:
        """End all."""
        for instance in self.all():
            instance.child.end()
