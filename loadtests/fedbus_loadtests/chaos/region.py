"""A region of a run: its instances, and what a manager does for them, or would do if there was one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from fedbus.limits import Limits
from fedbus.routing.table import HEALTHY, UNREACHABLE
from fedbus_loadtests.chaos.bit_rot import ledgers_in
from fedbus_loadtests.chaos.fleet import LIMITS, Fleet
from fedbus_loadtests.chaos.instance_process import Said
from fedbus_loadtests.chaos.recorder import Recorder
from fedbus_loadtests.chaos.steered_instance import SteeredInstance


class Region(Protocol):
    """What a run and its nemesis ask of a region."""

    replicas: int
    fleet: Fleet

    def tend(self) -> None:
        """Start again whoever has died, as Ray would."""

    def lose(self, name: str) -> list[str]:
        """Node and disk: process and directory are gone for ever. The ledgers of which a copy went."""

    def wait_whole(self) -> None:
        """Wait until there are as many copies as there should be; UnavailableError if that takes too long."""

    def stop_manager(self) -> None:
        """No manager from now on."""

    def start_manager(self) -> None:
        """A new one."""

    def record(self, recorder: Recorder) -> None:
        """What the region itself knows in the end: reports of damage, ends of ledgers, who has copies."""

    def close(self) -> None:
        """End all processes."""


class PlainRegion:
    """``count`` instances without a manager, one copy of everything. Whose directory is gone gets no second life."""

    replicas = 1

    def __init__(self, folder: Path, count: int, limits: Limits = LIMITS) -> None:
        self.fleet = Fleet(folder, limits, _ignore, managed=False)
        self._version = 0
        self.fleet.start(*(f"b{n}" for n in range(1, count + 1)))
        self._push_table()

    def tend(self) -> None:
        """Start again whoever has died."""
        if self.fleet.tend():
            self._push_table()

    def lose(self, name: str) -> list[str]:
        """It is gone for ever; another instance takes its place, with a ledger of its own."""
        self.fleet.drop(name)
        lost = ledgers_in(self.fleet.directory(name))
        shutil.rmtree(self.fleet.directory(name))
        self.fleet.start(self.fleet.new_name())
        self._push_table()
        return lost

    def wait_whole(self) -> None:
        """There is one copy of everything, or none."""

    def stop_manager(self) -> None:
        """There is none."""

    def start_manager(self) -> None:
        """There is none."""

    def record(self, recorder: Recorder) -> None:
        """What the logs report of damage."""
        record_reports(self.fleet, recorder)

    def close(self) -> None:
        """End all processes."""
        self.fleet.close()

    def _push_table(self) -> None:
        """An instance that is gone stays in the table: nobody knows that it will not come back."""
        self._version += 1
        running = self.fleet.names()
        self.fleet.push_table(
            self._version, {name: HEALTHY if name in running else UNREACHABLE for name in self.fleet.known()}
        )


def record_reports(fleet: Fleet, recorder: Recorder) -> None:
    """The ledgers that an instance's log calls damaged."""
    for name in fleet.known():
        reported: set[str] = set()
        for line in (fleet.folder / f"{name}.log").read_text(errors="replace").splitlines():
            words = line.split()
            if "damaged:" in words and "ledger" in words:
                reported.add(words[words.index("ledger") + 1])
        for ledger in sorted(reported):
            recorder.write("info", "report", target=name, position=ledger)


def _ignore(instance: SteeredInstance, said: Said) -> None:
    pass
