"""The federation manager of one region: the control loop, and the answers others ask of it.

Two rhythms. The *watch* (``region_watch.py``), twice a second of real time; the *tick* (``control_tick.py``), every
interval of the control plane's clock. Killed at any point, the next incarnation takes the store's lease and goes on
from what the store says.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable
from threading import Event
from typing import Any

import msgspec

from fedbus.broker.copy_effects import Request
from fedbus.broker.effects import RequestGroup
from fedbus.clock import NS_PER_S, Clock, SystemClock
from fedbus.errors import ConflictError, FedbusError, NotFoundError
from fedbus.options.federation import FederationOptions
from fedbus.threads import spawn
from fedbus_actors.control_tick import ControlTick
from fedbus_actors.region import Region
from fedbus_actors.region_changes import RegionChanges
from fedbus_actors.region_peering import RegionPeering
from fedbus_actors.region_report import RegionReport
from fedbus_actors.region_watch import RegionWatch
from fedbus_actors.relayed_calls import METHODS

WATCH_INTERVAL_S = 0.5
BUSY_INTERVAL_S = 0.1

log = logging.getLogger(__name__)


class FederationManager:
    """One region's manager; plain class, Ray makes an actor of it. ``clock`` may run faster than real time (demo)."""

    def __init__(self, options: FederationOptions, region: str, clock: Clock | None = None) -> None:
        self._region = Region(options, region, clock or SystemClock())
        self._watch = RegionWatch(self._region)
        self._tick = ControlTick(self._region)
        self._report = RegionReport(self._region)
        self._changes = RegionChanges(self._region)
        methods: dict[str, Callable[..., Any]] = {name: getattr(self, name) for name in METHODS}
        self._peering = RegionPeering(self._region, lambda: self._watch.summary, methods)
        self._region.peering.start(self._peering, self._region.groups.shared)
        self._next_tick_ns = 0
        self._stopping = Event()
        self._wake = Event()
        self._thread = spawn(f"manager-{region}", self._run)

    def _run(self) -> None:
        region = self._region
        while not self._stopping.is_set():
            try:
                self._watch.run()
                self._peering.step()
                if region.clock.now_ns() >= self._next_tick_ns:
                    interval_ns = region.options.manager.tick_interval_ms * 1_000_000
                    self._next_tick_ns = region.clock.now_ns() + interval_ns
                    self._tick.run()
            except ConflictError as error:
                if region.superseded:
                    log.warning("manager of %s ends: %s", region.name, error.detail)
                    os._exit(1)
                log.exception("manager of %s: a step met a concurrent change", region.name)
            except Exception:  # the loop must go on: every step can be repeated
                log.exception("manager of %s: a step failed", region.name)
            self._wait_for_interval()

    def _wait_for_interval(self) -> None:
        clock = self._region.clock
        tick_in_s = clock.real_seconds((self._next_tick_ns - clock.now_ns()) / NS_PER_S)
        interval_s = BUSY_INTERVAL_S if self._region.ledgers.busy else WATCH_INTERVAL_S
        self._wake.wait(min(interval_s, max(0.05, tick_in_s)))
        self._wake.clear()

    # -- asked by others -----------------------------------------------------------------------------------------------

    def readiness(self) -> bool | str:
        """True once an instance takes events and the routing table says so; else what is missing."""
        if self._region.peering.problem:
            return self._region.peering.problem
        if self._region.table is None:
            return "no routing table yet"
        route = self._region.table.region(self._region.name)
        return (
            route is not None and any(each.takes_events for each in route.instances)
        ) or "no instance takes events yet"

    def bootstrap(self) -> dict[str, Any]:
        """What a client starts with; raises :class:`NotFoundError` while there is no table yet."""
        table = self._region.table
        if table is None:
            raise NotFoundError(f"region {self._region.name} is starting: no instance is known yet")
        return {
            "federation": self._region.options.name,
            "region": self._region.name,
            "table": base64.b64encode(table.encode()).decode(),
            "table_version": table.version,
            "limits": msgspec.to_builtins(self._region.options.limits),
            "policies": self._region.topics.rules()["rules"],
        }

    def read(self, resource: str) -> list[dict[str, Any]]:
        """One resource of the control API (see ``region_report.py``)."""
        return self._report.read(resource)

    def query(self, query: str, asked: Any = None) -> Any:
        """A question that needs an answer of the moment.

        ``topic_rules``, ``topics_seen``, ``group``, and by other regions ``group_record``.
        """
        topics, groups = self._region.topics, self._region.groups
        queries: dict[str, Callable[[Any], Any]] = {
            "topic_rules": topics.rules, "topics_seen": topics.seen, "group": groups.detail,
            "group_record": groups.exchange.answer,
        }  # fmt: skip
        if query not in queries:
            raise NotFoundError(f"{query!r} is none of {', '.join(sorted(queries))}")
        return queries[query](asked)

    def change(self, change: str, name: str, value: Any = None) -> dict[str, Any]:
        """An operator's change (see ``region_changes.py``); the next tick comes at once."""
        answer = self._changes.apply(change, name, value)
        self.hurry()
        return answer

    def hurry(self) -> None:
        """Let the next tick come at once."""
        self._next_tick_ns = 0
        self._wake.set()

    def ledger_request(self, instance: str, request: Request) -> None:
        """What an instance (region/id) asks for its ledgers; the answer comes as a call of the instance."""
        self._region.ledgers.request(instance, request)
        self._wake.set()

    def group_request(self, instance: str, request: RequestGroup) -> None:
        """An instance (region/id) asks for a group that it does not know; the answer comes as a call of it."""
        self._region.groups.requests.add(instance, request)

    def schemas(self, call: str, *arguments: Any) -> Any:
        """The schema registry's store (``revision``, ``load``, ``commit``).

        The registry's home is one region's store.
        """
        if call not in ("revision", "load", "commit"):
            raise FedbusError(f"{call} is no call of the schema store")
        return getattr(self._region.store.schemas, call)(*arguments)

    def relay(self, region: str, method: str, *arguments: Any) -> Any:
        """``bootstrap``, ``read``, ``query``, ``change`` or ``schemas`` at the manager of another region.

        Raises what that raises; :class:`UnavailableError` if it does not answer, NotFoundError if there is none.
        """
        return self._peering.relay(region, method, *arguments)

    def peers(self) -> list[dict[str, Any]]:
        """All regions ever heard of, this one too: address, key, state, round trip, gateway."""
        return self._peering.peers()

    def stop(self) -> None:
        """End the loop; the instances go on."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        self._region.peering.stop()
        self._region.groups.requests.stop()
        self._region.store.close()
