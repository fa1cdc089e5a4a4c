"""The faults: what each does to a region and its clients, and how it ends. Seeded, recorded, one at a time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from threading import Event
from typing import Any

from fedbus_loadtests.chaos.bit_rot import cut, flip, sealed_segments, tear
from fedbus_loadtests.chaos.clients import Client
from fedbus_loadtests.chaos.faulty_disk import DiskFaults
from fedbus_loadtests.chaos.recorder import Recorder
from fedbus_loadtests.chaos.region import Region

Heal = Callable[[], None]

FLIP_TRIES = 300  # a tenth of a second apart: on a busy machine it takes a while until the first segment is full


class Faults:
    """Each method strikes, tells the recorder what it did, and returns what ends it (called after the fault's time)."""

    def __init__(self, region: Region, clients: Sequence[Client], recorder: Recorder, random: Random) -> None:
        self._region = region
        self._clients = clients
        self._recorder = recorder
        self._random = random

    def strike(self, kind: str) -> Heal:
        """Begin a fault of :data:`KINDS`."""
        heal: Heal = getattr(self, f"_{SAME_AS.get(kind, kind)}")()
        return heal

    def _one(self) -> str:
        return self._random.choice(self._region.fleet.names())

    def _fault(self, fault: str, target: str, detail: str = "") -> None:
        self._recorder.write("info", "fault", fault=fault, target=target, detail=detail)

    def _note(self, operation: str, **fields: Any) -> None:
        self._recorder.write("info", operation, **fields)

    def _kill(self) -> Heal:
        """SIGKILL of an instance in the middle of its writes."""
        name = self._one()
        self._fault("kill", name)
        self._region.fleet.kill(name)
        return self._region.tend

    def _stop(self) -> Heal:
        """SIGSTOP: for everybody else it is gone, for itself nothing has happened."""
        name = self._one()
        self._fault("stop", name)
        self._region.fleet.signal(name, signal.SIGSTOP)
        return lambda: self._region.fleet.signal(name, signal.SIGCONT)

    def _torn(self) -> Heal:
        """SIGKILL in the middle of a write, which ends at any byte; with copies a page that never came to disk, too."""
        self._region.wait_whole()
        name = self._one()
        directory = self._region.fleet.directory(name)
        self._fault("torn", name)
        self._region.fleet.kill(name)
        if self._region.replicas > 1 and self._random.random() < 0.5:  # noqa: PLR2004 - half of the time
            cut(directory, self._random)
        else:
            tear(directory, self._random)
        return self._region.tend

    def _flip(self) -> Heal:
        """One bit of a sealed segment changes, under a running instance; as soon as a segment is sealed."""
        self._region.wait_whole()
        names = self._region.fleet.names()
        pause = Event()
        for _ in range(FLIP_TRIES):
            for name in self._random.sample(names, len(names)):
                damaged = flip(sealed_segments(self._region.fleet.directory(name)), self._random)
                if damaged is not None:
                    self._fault("flip", name, f"{damaged.path.name}, byte {damaged.position}")
                    position = f"{damaged.ledger}:{damaged.first_offset}"
                    self._note("damage", target=name, position=position, end=damaged.end_offset)
                    return partial(self._region.fleet.ask, name, "scrub")
            pause.wait(0.1)
        return lambda: None

    def _eio(self) -> Heal:
        """Every sync fails. The instance must store nothing more; whoever watches it starts it again."""
        name = self._one()
        self._fault("eio", name)
        self._region.fleet.disk(name, DiskFaults(sync_fails=True))

        def replace() -> None:
            self._region.fleet.kill(name)
            self._region.tend()

        return replace

    def _full(self) -> Heal:
        """The disk takes a few bytes more and then none, until there is room again."""
        name, room = self._one(), self._random.randrange(20_000)
        self._fault("full", name, f"{room} bytes left")
        self._region.fleet.disk(name, DiskFaults(room_bytes=room))
        return lambda: self._region.fleet.disk(name, DiskFaults())

    def _slow(self) -> Heal:
        """Every sync takes long."""
        name, sync_ms = self._one(), self._random.randint(50, 400)
        self._fault("slow", name, f"{sync_ms} ms")
        self._region.fleet.disk(name, DiskFaults(sync_ms=sync_ms))
        return lambda: self._region.fleet.disk(name, DiskFaults())

    def _lose(self) -> Heal:
        """Node and disk are gone."""
        self._region.wait_whole()
        name = self._one()
        self._fault("lose", name)
        for ledger in self._region.lose(name):
            self._note("lose", target=name, position=ledger)
        return lambda: None

    def _client(self) -> Heal:
        """SIGKILL of a client in the middle of its requests; it comes back and asks again with the same ids."""
        client = self._random.choice(self._clients)
        self._fault("client", client.name)
        client.kill()
        return client.start

    def _manager(self) -> Heal:
        """The region's manager is gone for a while."""
        self._fault("manager", "manager")
        self._region.stop_manager()
        return self._region.start_manager


# How long each lasts, in seconds (shortest, longest); with one copy the manager is nobody.
LASTING_S: dict[str, tuple[float, float]] = {
    "kill": (0.1, 1.5),
    "stop": (0.5, 8.0),
    "sleep": (60.0, 65.0),
    "torn": (0.1, 0.5),
    "flip": (0.1, 0.5),
    "eio": (1.0, 3.0),
    "full": (1.0, 4.0),
    "slow": (1.0, 4.0),
    "lose": (0.1, 1.0),
    "client": (0.0, 1.0),
    "manager": (1.0, 5.0),
}
KINDS = tuple(LASTING_S)
SAME_AS = {"sleep": "stop"}  # the same done for a minute: long after everybody else has gone on


def of_replicas(replicas: int) -> tuple[str, ...]:
    """All that apply: without copies there is no manager to kill."""
    return tuple(kind for kind in KINDS if replicas > 1 or kind != "manager")
