"""A region without Ray: bus instances on real directories and sockets, kept by the real keeper over a real store."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

from fedbus.broker import copy_effects as c
from fedbus.broker import effects as e
from fedbus.broker.state import GroupRecord
from fedbus.broker.status import BrokerStatus
from fedbus.clock import SystemClock
from fedbus.control.holders import Settings, Stage
from fedbus.errors import FedbusError
from fedbus.ledger_record import LedgerRecord
from fedbus.limits import Limits
from fedbus.storage.store import Store
from fedbus.threads import spawn
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from fedbus_actors.region_ledgers import Kept, LedgerKeeper
from tests.federation.waiting import until as wait_until

REGION = "here.a"
STEP_S = 0.02
DEADLINE_S = 30.0
TAKEOVER_NS = 300_000_000


class _CrashedError(Exception):
    """As kill -9, as far as that goes inside one process: nothing is answered any more."""


class Managed:
    """One instance of the region, through all its incarnations. ``crashes``: why an incarnation ended by itself."""

    def __init__(self, region: ManagedRegion, name: str, directory: Path) -> None:
        self.region, self.name, self.directory = region, name, directory
        self.bus: BusInstance | None = None
        self.incarnation = 0
        self.stage: Stage = "staying"
        self.silent_since_ns: int | None = None
        self.status: BrokerStatus | None = None
        self.crashes: list[BaseException] = []
        self.uuid = ""
        self.hears = True  # False: what the manager says does not arrive, nor what it says to the manager

    def start(self) -> BusInstance:
        config = InstanceConfig(REGION, self.name, str(self.directory), limits=self.region.limits, managed=True)
        self.bus = BusInstance(config, on_crash=self.crashes.append, on_request=self._request)
        self.uuid = (self.directory / "UUID").read_text().strip()
        self.incarnation += 1
        self.status, self.silent_since_ns = None, None
        self._post(e.ApplyTopics(1, []))
        self._post(e.ApplyGroups(list(self.region.groups.values())))
        return self.bus

    def _request(self, request: c.Request | e.RequestGroup) -> None:
        if self.hears:
            self.region.requests.put((f"{REGION}/{self.name}", request))

    def stop(self) -> None:
        """In order: everything is written and answered."""
        bus, self.bus = self.bus, None
        self.silent_since_ns = self.region.clock.monotonic_ns()
        if bus is not None:
            bus.stop()

    def crash(self) -> None:
        """Nothing more is written or answered."""

        def end(_wait_ms: int) -> None:
            raise _CrashedError

        assert self.bus is not None
        self.bus._thread._turn = end  # type: ignore[method-assign]
        self.stop()

    # -- what the keeper calls; never waits ----------------------------------------------------------------------------

    def _post(self, event: e.Input) -> None:
        bus = self.bus
        if bus is not None and self.hears:
            bus._thread.post(event)

    def apply_ledgers(self, records: list[LedgerRecord], endpoints: dict[str, str]) -> None:
        self._post(c.ApplyLedgers(records, endpoints))

    def request_refused(self, ledger: str, detail: str) -> None:
        self._post(c.RequestRefused(ledger, detail))

    def review_ensemble(self, ledger: str) -> None:
        self._post(c.ReviewEnsemble(ledger))

    def close_ledger(self) -> None:
        self._post(e.Drain(close=True))

    def kept(self) -> Kept:
        bus = self.bus
        if bus is not None and self.hears:
            try:
                self.status = bus.status()
            except FedbusError:  # it has ended by itself
                self.silent_since_ns = self.silent_since_ns or self.region.clock.monotonic_ns()
        present = bus is not None and self.silent_since_ns is None and self.status is not None
        return Kept(
            name=f"{REGION}/{self.name}", node="n", endpoint=f"tcp://127.0.0.1:{bus.port}" if bus is not None else "",
            directory_uuid=self.uuid, incarnation=self.incarnation, present=present,
            silent_since_ns=self.silent_since_ns, stage=self.stage, status=self.status, calls=self,
        )  # fmt: skip


class ManagedRegion:
    """``names``: the instances; all are started. Its keeper steps in a thread of its own, until the end of ``with``."""

    def __init__(self, root: Path, *names: str, limits: Limits | None = None, **settings: Any) -> None:
        self.limits = limits or Limits()
        self.clock = SystemClock()
        self.requests: queue.Queue[tuple[str, c.Request | e.RequestGroup]] = queue.Queue(1000)
        self.groups: dict[str, GroupRecord] = {}
        self.instances = {name: Managed(self, name, root / name) for name in names}
        self.notes: list[tuple[str, str]] = []
        self.failures: list[BaseException] = []
        self._root = root
        self._settings = Settings(takeover_ns=TAKEOVER_NS, brake_ns=1, **settings)
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        self.store = Store(self._root / "store.db", self.clock.now_ns())
        self.keeper = LedgerKeeper(self.store, self._settings, self.clock, lambda *note: self.notes.append(note))
        for each in self.instances.values():
            each.start()
        self._thread = spawn("test-keeper", self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        for each in self.instances.values():
            each.stop()
        self.store.close()
        assert not self.failures, self.failures

    def __getitem__(self, name: str) -> Managed:
        return self.instances[name]

    def _keep(self) -> None:
        while not self._ending.is_set():
            try:
                asked = self.requests.get(timeout=STEP_S)
            except queue.Empty:
                asked = None
            try:
                if asked is not None:
                    self._answer(*asked)
                self.keeper.step([each.kept() for each in self.instances.values() if each.incarnation])
            except Exception as error:  # noqa: BLE001 - shown by the test
                self.failures.append(error)
                return

    def _answer(self, name: str, request: c.Request | e.RequestGroup) -> None:
        if isinstance(request, c.Request):
            self.keeper.request(name, request)
            return
        spec = msgspec.structs.replace(request.spec, created_ns=self.clock.now_ns(), version=1)
        self.groups.setdefault(spec.name, GroupRecord(spec))
        for each in self.instances.values():
            each._post(e.ApplyGroups(list(self.groups.values())))

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """What the condition says once it is true."""

        def found() -> Any:
            assert not self.failures, self.failures
            return condition()

        return wait_until(found, DEADLINE_S, what, lambda: (self.keeper.plan.waiting, self.notes[-5:]), pause_s=0.01)

    def writing(self, name: str) -> str:
        """The ledger the instance writes, once it does."""
        each = self[name]
        return str(self.until(lambda: each.bus is not None and each.bus.status().ledger, f"{name} writes"))

    def record(self, ledger: str) -> LedgerRecord:
        """The ledger's record in the store."""
        return next(record for record in self.keeper.records() if record.id == ledger)
