"""The manager of a run's region: the real keeper of its ledgers over instances in plain processes, without Ray.

Beside that it does only what the run needs: it watches who answers, makes the routing table, and records groups. It can
be stopped at any moment; the next one starts from the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import msgspec

from fedbus.broker.copy_effects import Request
from fedbus.broker.effects import RequestGroup
from fedbus.broker.group_spec import GroupRecord, GroupSpec
from fedbus.broker.status import BrokerStatus
from fedbus.clock import Clock, SystemClock
from fedbus.control.holders import Settings
from fedbus.errors import ConflictError
from fedbus.ledger_record import LedgerRecord
from fedbus.routing.table import HEALTHY, UNREACHABLE
from fedbus.storage.store import Store
from fedbus.threads import spawn
from fedbus_actors.ledger_pushes import Kept
from fedbus_actors.region_ledgers import LedgerKeeper
from fedbus_loadtests.chaos.fleet import REGION, Fleet
from fedbus_loadtests.chaos.steered_instance import SteeredInstance

STEP_S = 0.1
PRESENT_NS = 1_500_000_000

log = logging.getLogger(__name__)


class SteeredCalls:
    """What the keeper says to one instance; nothing while it does not answer (it is said again)."""

    def __init__(self, instance: SteeredInstance, *, answering: bool) -> None:
        self._instance = instance
        self._answering = answering

    def _say(self, method: str, *arguments: Any) -> None:
        if self._answering:
            self._instance.ask(method, *arguments)

    def apply_ledgers(self, records: list[LedgerRecord], endpoints: dict[str, str]) -> None:
        """Ledger records that concern it."""
        self._say("apply_ledgers", records, endpoints)

    def request_refused(self, ledger: str, detail: str) -> None:
        """What it asked for cannot be done now."""
        self._say("request_refused", ledger, detail)

    def review_ensemble(self, ledger: str) -> None:
        """Ask for other members."""
        self._say("review_ensemble", ledger)

    def close_ledger(self) -> None:
        """End the ledger."""
        self._say("close_ledger")


class Watched:
    """One incarnation of an instance, and when it was heard of last."""

    def __init__(self, instance: SteeredInstance, now_ns: int) -> None:
        self.instance = instance
        self.status: BrokerStatus | None = None
        self.heard_ns = now_ns
        self.asking = False


class RecordedGroups:
    """The groups of a run, in a file that outlives the manager."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def record(self, spec: GroupSpec, instances: Sequence[SteeredInstance]) -> None:
        """Everyone has it before whoever asked is answered, as it is the last to be told."""
        groups = self._all()
        if spec.name not in groups:
            groups[spec.name] = msgspec.structs.replace(spec, created_ns=self._clock.now_ns())
            self._file.write_bytes(msgspec.json.encode(groups))
        self.tell(instances)

    def tell(self, instances: Sequence[SteeredInstance]) -> None:
        """All of them, to each of these."""
        definitions = [GroupRecord(spec) for spec in self._all().values()]
        for instance in instances:
            instance.ask("apply_groups", definitions)

    def _all(self) -> dict[str, GroupSpec]:
        file = self._file
        return msgspec.json.decode(file.read_bytes(), type=dict[str, GroupSpec]) if file.exists() else {}


class Manager:
    """Runs from construction to :meth:`stop`. ``tables``: the versions of routing tables, which only grow."""

    def __init__(self, store: Path, fleet: Fleet, settings: Settings, tables: Callable[[], int]) -> None:
        self._clock = SystemClock()
        self._fleet = fleet
        self._tables = tables
        self._store = Store(store, self._clock.now_ns())
        self.keeper = LedgerKeeper(
            self._store, settings, self._clock, lambda kind, text: log.info("%s: %s", kind, text)
        )
        self._asked: Queue[tuple[str, Request | RequestGroup]] = Queue()
        self._groups = RecordedGroups(fleet.folder / "groups.json", self._clock)
        self._watched: dict[str, Watched] = {}
        self._states: dict[str, str] = {}
        self.crash = ""  # why it ended by itself
        self._stopping = False
        self._thread = spawn("manager", self._run)

    def ask(self, name: str, request: Request | RequestGroup) -> None:
        """An instance asks for something."""
        self._asked.put((name, request))

    def statuses(self) -> dict[str, BrokerStatus]:
        """What those that answer now said last."""
        return {
            name: watched.status
            for name, watched in list(self._watched.items())
            if watched.status is not None and self._present(watched)
        }

    def stop(self) -> None:
        """No more; nothing is tidied up."""
        self._stopping = True
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        try:
            self._manage()
        except Exception as error:
            self.crash = f"{type(error).__name__}: {error}"
            raise

    def _manage(self) -> None:
        while not self._stopping:
            try:
                name, request = self._asked.get(timeout=STEP_S)
            except Empty:
                self._step()
                continue
            try:
                self._answer(name, request)
            except ConflictError as error:
                log.warning("%s", error)

    def _answer(self, name: str, request: Request | RequestGroup) -> None:
        if isinstance(request, Request):
            self.keeper.request(f"{REGION}/{name}", request)
        else:
            self._groups.record(request.spec, self._fleet.all())

    def _step(self) -> None:
        self._watch()
        try:
            self.keeper.step([self._kept(watched) for watched in self._watched.values()])
        except ConflictError as error:
            log.warning("%s", error)
        self._make_table()

    def _watch(self) -> None:
        now_ns = self._clock.monotonic_ns()
        running = {instance.name: instance for instance in self._fleet.all()}
        for name in list(self._watched):
            if name not in running:
                del self._watched[name]
        for name, instance in running.items():
            watched = self._watched.get(name)
            if watched is None or watched.instance is not instance:
                silent_ns = watched.heard_ns if watched is not None else now_ns
                watched = self._watched[name] = Watched(instance, silent_ns)
            if not watched.asking:
                self._ask_status(watched)

    def _ask_status(self, watched: Watched) -> None:
        watched.asking = True
        first = watched.status is None

        def answered(future: Any) -> None:
            watched.asking = False
            if future.exception() is None:
                watched.status = msgspec.json.decode(future.result(), type=BrokerStatus)
                watched.heard_ns = self._clock.monotonic_ns()

        watched.instance.ask("status").add_done_callback(answered)
        if first:
            self._groups.tell([watched.instance])

    def _present(self, watched: Watched) -> bool:
        return watched.status is not None and self._clock.monotonic_ns() - watched.heard_ns < PRESENT_NS

    def _kept(self, watched: Watched) -> Kept:
        instance, present = watched.instance, self._present(watched)
        return Kept(
            name=f"{REGION}/{instance.name}",
            node=instance.name,
            endpoint=self._fleet.known().get(instance.name, "") if watched.status is not None else "",
            directory_uuid=self._identity(instance.name),
            incarnation=instance.child.pid,
            present=present,
            silent_since_ns=None if present else watched.heard_ns,
            stage="staying",
            status=watched.status,
            calls=SteeredCalls(instance, answering=present),
        )

    def _identity(self, name: str) -> str:
        """Of an instance's directory; empty before it has one."""
        try:
            return (self._fleet.directory(name) / "UUID").read_text().strip()
        except FileNotFoundError:
            return ""

    def _make_table(self) -> None:
        known = self._fleet.known()
        here = {name: self._present(watched) for name, watched in self._watched.items() if name in known}
        states = {name: HEALTHY if present else UNREACHABLE for name, present in here.items()}
        if states != self._states:
            self._states = states
            self._fleet.push_table(self._tables(), states)
