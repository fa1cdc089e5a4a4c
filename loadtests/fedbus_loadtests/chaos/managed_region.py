"""A region with a manager: every batch is on two disks before it is acknowledged, and copies are made again."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path
from threading import Event

import msgspec

from fedbus.broker.copy_effects import Request
from fedbus.broker.effects import RequestGroup
from fedbus.clock import NS_PER_S, SystemClock
from fedbus.control.holders import Settings
from fedbus.errors import UnavailableError
from fedbus.ledger_record import Held, LedgerRecord
from fedbus.limits import Limits
from fedbus_loadtests.chaos.bit_rot import ledgers_in
from fedbus_loadtests.chaos.fleet import LIMITS, Fleet
from fedbus_loadtests.chaos.instance_process import Said
from fedbus_loadtests.chaos.recorder import Recorder
from fedbus_loadtests.chaos.region import record_reports
from fedbus_loadtests.chaos.region_manager import Manager
from fedbus_loadtests.chaos.steered_instance import SteeredInstance

WHOLE_S = 90.0
LOOK_S = 0.1
TAKEOVER_NS = 2_500_000_000


class ManagedRegion:
    """``count`` instances and a manager; whoever loses his disk comes back empty, or not at all, by turns."""

    replicas = 2

    def __init__(self, folder: Path, count_: int, limits: Limits = LIMITS) -> None:
        self._store = folder / "store.db"
        self._settings = Settings(replicas=self.replicas, takeover_ns=TAKEOVER_NS)
        self._versions = count(1)
        self._manager: Manager | None = None
        self._losses = 0
        self._clock = SystemClock()
        self._never = Event()
        self.fleet = Fleet(folder, limits, self._said, managed=True)
        self.start_manager()
        self.fleet.start(*(f"b{n}" for n in range(1, count_ + 1)))
        self.wait_whole()

    def tend(self) -> None:
        """Start again whoever has died."""
        self.fleet.tend()

    def lose(self, name: str) -> list[str]:
        """The disk, and with every second one the node too: then another instance comes, else it is back, empty."""
        lost = ledgers_in(self.fleet.directory(name))
        self._losses += 1
        if self._losses % 2:
            self.fleet.kill(name)
            shutil.rmtree(self.fleet.directory(name))
            self.fleet.tend()
        else:
            self.fleet.drop(name)
            shutil.rmtree(self.fleet.directory(name))
            self.fleet.start(self.fleet.new_name())
        return lost

    def wait_whole(self) -> None:
        """Wait until every ledger has its copies, and every instance one to write."""
        end_ns = self._clock.monotonic_ns() + int(WHOLE_S * NS_PER_S)
        while (lacking := self._lacking()) and self._clock.monotonic_ns() < end_ns:
            self.fleet.tend()
            self._never.wait(LOOK_S)
        if lacking:
            raise UnavailableError(f"not whole within {WHOLE_S:.0f} s: {lacking}")

    def stop_manager(self) -> None:
        """No manager from now on."""
        if self._manager is not None:
            manager, self._manager = self._manager, None
            manager.stop()

    def start_manager(self) -> None:
        """A new one, from the store."""
        self._manager = Manager(self._store, self.fleet, self._settings, lambda: next(self._versions))

    def record(self, recorder: Recorder) -> None:
        """Reports of damage; where ledgers end; who holds them."""
        record_reports(self.fleet, recorder)
        self.wait_whole()
        assert self._manager is not None, "it is started again before the end"
        for record in self._manager.keeper.records():
            if record.state == "CLOSED":
                recorder.write("info", "close", position=record.id, end=record.end_offset or 0)
            holders = " ".join(member.instance.rpartition("/")[2] for member in record.members)
            recorder.write("info", "copies", position=record.id, target=holders)

    def close(self) -> None:
        """End everything."""
        self.fleet.close()
        self.stop_manager()

    def _said(self, instance: SteeredInstance, said: Said) -> None:
        """What nobody hears now is asked again."""
        kind: type[Request | RequestGroup] = Request if said.what == "request" else RequestGroup
        if self._manager is not None:
            self._manager.ask(instance.name, msgspec.json.decode(said.value, type=kind))

    def _lacking(self) -> str:
        """What is not as it should be, in words; empty if nothing."""
        manager = self._manager
        if manager is None:
            return "the manager"
        if manager.crash:
            return f"the manager has crashed: {manager.crash}"
        statuses = manager.statuses()
        records = manager.keeper.records()
        held = {(f"{status.instance}", each.ledger): each for status in statuses.values() for each in status.held}
        for name in self.fleet.names():
            status = statuses.get(name)
            if status is None or not status.ledger or status.failed:
                return f"{name} writes no ledger"
        for record in records:
            if lacks := _lacks(record, held):
                return f"{record.id}: {lacks}"
        return ""


def _lacks(record: LedgerRecord, held: dict[tuple[str, str], Held]) -> str:
    if record.state == "RECOVERING":
        return "is being recovered"
    if len(record.fragments) > 1:
        return "has fragments"
    if len(record.members) < ManagedRegion.replicas:
        return "has too few members"
    for member in record.members:
        copy = held.get((member.instance, record.id))
        if copy is None or copy.damaged or copy.first_number > 0:
            return f"no whole copy at {member.instance}"
        if record.state == "CLOSED" and not (copy.complete(record) and copy.cut):
            return f"an unfinished copy at {member.instance}"
    return ""
