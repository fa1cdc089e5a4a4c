"""A region without Ray: real bus instances in threads of this process, a real store, and its ledger keeper.

The keeper's watch runs in a thread, as a manager's does; an instance that stops by itself (its ledger was taken over)
is started anew, as Ray does. Groups are answered here, simply.
"""

from __future__ import annotations

import contextlib
import shutil
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, RLock
from time import monotonic
from typing import Self

import msgspec

from fedbus.broker import copy_effects as c
from fedbus.broker import effects as e
from fedbus.broker.group_spec import GroupRecord
from fedbus.clock import SystemClock
from fedbus.control.replication import Settings
from fedbus.errors import ClosedError, ConflictError
from fedbus.limits import Limits
from fedbus.storage.data_directory import InstanceDirectory
from fedbus.storage.store import Store
from fedbus.threads import spawn
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from fedbus_actors.ledger_pushes import Kept
from fedbus_actors.region_ledgers import LedgerKeeper

REGION = "local.kept"
DEADLINE_S = 30.0
MS = 1_000_000


class KeptInstance:
    """One instance and what the keeper's watch knows of it."""

    def __init__(self, region: KeptRegion, name: str, node: str) -> None:
        self.region, self.name, self.node = region, name, node
        self.folder = region.folder / name
        self.port, self.incarnation, self.stage = 0, 0, "staying"
        self.bus: BusInstance | None = None
        self.status = None
        self.asked: Future | None = None
        self.silent_since_ns: int | None = None
        self.gate = Event()

    def start(self) -> None:
        """The next incarnation, on the same port and directory."""
        config = InstanceConfig(
            REGION, self.name, str(self.folder), port=self.port, limits=self.region.limits, managed=True
        )
        self.bus = BusInstance(config, on_crash=self._crashed, on_request=self._request)
        self.bus.apply_topics(1, [], True)
        self.incarnation += 1
        self.uuid = InstanceDirectory(self.folder).uuid
        self.port, self.asked = self.bus.port, None

    def _request(self, request) -> None:
        self.region.requests.put((self, request))

    def _crashed(self, error: BaseException) -> None:
        self.region.crashed.put((self, self.bus, error))

    def kill(self) -> None:
        """End it without a word: what it has not answered stays unanswered."""
        bus, self.bus = self.bus, None
        bus._thread._finish = lambda: None
        bus.stop()

    def freeze(self) -> None:
        """As SIGSTOP: the broker's thread stands still until :meth:`thaw`."""
        self.gate.clear()
        self.bus._thread.call(lambda broker: self.gate.wait())

    def thaw(self) -> None:
        self.gate.set()

    def poll(self, now_ns: int) -> None:
        """What the fleet's poll does."""
        present = False
        if self.bus is not None:
            self.asked = self.asked or self.bus._thread.call(lambda broker: broker.status())
            with contextlib.suppress(TimeoutError, ClosedError):
                self.status = self.asked.result(0.1)
                self.asked, present = None, True
            if self.asked is not None and self.asked.done():
                self.asked = None
        self.silent_since_ns = None if present else self.silent_since_ns or now_ns

    def kept(self) -> Kept:
        return Kept(
            name=f"{REGION}/{self.name}", node=self.node, endpoint=f"tcp://127.0.0.1:{self.port}",
            directory_uuid=self.uuid, incarnation=self.incarnation, present=self.silent_since_ns is None,
            silent_since_ns=self.silent_since_ns, stage=self.stage, status=self.status, calls=self,
        )  # fmt: skip

    # -- the keeper's calls --------------------------------------------------------------------------------------------

    def _post(self, event) -> None:
        if self.bus is not None:
            self.bus._thread.post(event)

    def apply_ledgers(self, records, endpoints) -> None:
        self._post(c.ApplyLedgers(records, endpoints))

    def request_refused(self, ledger, detail) -> None:
        self._post(c.RequestRefused(ledger, detail))

    def review_ensemble(self, ledger) -> None:
        self._post(c.ReviewEnsemble(ledger))

    def close_ledger(self) -> None:
        self._post(e.Drain(close=True))


class KeptRegion:
    """The region; ``watching`` is set while the manager lives."""

    def __init__(self, folder: Path, count: int, *, replicas: int = 0, takeover_ms: int = 700) -> None:
        self.folder, self.limits, self.clock = folder, Limits(), SystemClock()
        self.settings = Settings(replicas=replicas, takeover_ns=takeover_ms * MS)
        self.requests: SimpleQueue = SimpleQueue()
        self.crashed: SimpleQueue = SimpleQueue()
        self.groups: dict[str, GroupRecord] = {}
        self.instances: dict[str, KeptInstance] = {}
        self.log: list[str] = []
        self.lock = RLock()
        self.store = self.keeper = self._watch = None
        self.start_manager()
        for number in range(1, count + 1):
            self.add(f"b{number}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_manager()
        for instance in self.instances.values():
            instance.thaw()
            if instance.bus is not None:
                instance.kill()

    def __getitem__(self, name: str) -> KeptInstance:
        return self.instances[name]

    def add(self, name: str, node: str = "n1") -> KeptInstance:
        instance = KeptInstance(self, name, node)
        instance.start()
        with self.lock:
            self.instances[name] = instance
        return instance

    def lose(self, name: str) -> None:
        """Its machine is gone, its disk with it."""
        instance = self.instances[name]
        instance.kill()
        shutil.rmtree(instance.folder)
        with self.lock:
            del self.instances[name]

    # -- the manager ---------------------------------------------------------------------------------------------------

    def start_manager(self) -> None:
        self.store = Store(self.folder / "store.db", 0)
        self.keeper = LedgerKeeper(self.store, self.settings, self.clock, lambda kind, text: self.log.append(text))
        self._ending = Event()
        self._watch = spawn("keeper", self._run)

    def stop_manager(self) -> None:
        self._ending.set()
        self._watch.join()
        self.store.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(ConflictError), self.lock:
                self._start_anew()
                for instance in self.instances.values():
                    instance.poll(self.clock.monotonic_ns())
                self.keeper.step([each.kept() for each in self.instances.values() if each.status is not None])
            self._answer(0.05)

    def _start_anew(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                instance, bus, error = self.crashed.get_nowait()
                self.log.append(f"{instance.name} has ended: {error}")
                if instance.bus is bus and bus is not None:
                    bus._release()
                    instance.start()

    def _answer(self, patience_s: float) -> None:
        with contextlib.suppress(Empty):
            while True:
                instance, request = self.requests.get(timeout=patience_s)
                patience_s = 0.0
                if isinstance(request, c.Request):
                    self.keeper.request(f"{REGION}/{instance.name}", request)
                else:
                    spec = msgspec.structs.replace(request.spec, created_ns=self.clock.now_ns(), version=1)
                    self.groups.setdefault(spec.name, GroupRecord(spec))
                    for each in self.instances.values():
                        each._post(e.ApplyGroups(list(self.groups.values())))

    # -- what tests wait for -------------------------------------------------------------------------------------------

    def until(self, condition, what: str = "") -> None:
        end = monotonic() + DEADLINE_S
        pause = Event()
        while not condition():
            assert monotonic() < end, f"{what or condition} did not come: {self.describe()}"
            pause.wait(0.02)

    def describe(self) -> str:
        records = [
            f"{r.id} {r.state} v{r.version} t{r.term} end {r.end_number} by {r.dispatcher} "
            f"{[(f.first_number, [m.instance for m in f.members]) for f in r.fragments]}"
            for r in self.keeper.records()
        ]
        held = [
            f"{each.name}: writes {each.status.ledger} failed={each.status.failed!r} {each.status.requests} "
            f"{each.status.held}"
            for each in self.instances.values()
            if each.status is not None
        ]
        return "\n".join([str(self.keeper.plan), *records, *held, *self.log[-30:]])

    def settled(self, copies: int | None = None) -> bool:
        """Whether every living instance writes a ledger, nothing is left to do, and there are enough copies."""
        planned = self.keeper.plan
        with self.lock:
            living = [each for each in self.instances.values() if each.stage == "staying"]
            writing = all(each.status is not None and each.status.ledger for each in living)
        done = not (planned.changes or planned.reviews or planned.waiting)
        wanted = planned.wanted if copies is None else copies
        return writing and done and bool(planned.copies) and set(planned.copies.values()) == {wanted}

    def record(self, ledger: str):
        return next(record for record in self.keeper.records() if record.id == f"{REGION}/{ledger}")
