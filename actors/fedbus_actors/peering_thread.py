"""The thread of peering: owns the sockets and the core, and carries out what the core decides.

What may take long (the store, the region's answers to calls) happens in workers, so that no report waits for a disk. A
port that is taken is tried again, and named in :attr:`PeeringThread.problem`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from threading import Event
from typing import Any, Protocol

import msgspec
import zmq

from fedbus.broker.group_spec import GroupRecord
from fedbus.clock import SystemClock
from fedbus.control import peering_effects as e
from fedbus.control.peer import PeeringSettings
from fedbus.control.peering import GroupDefinitions, PeeringCore
from fedbus.control.summary import RegionAddress, RegionSummary
from fedbus.errors import ClosedError, EnvironmentUnusableError, FedbusError, OverloadedError
from fedbus.threads import spawn
from fedbus_actors.inbox import Inbox
from fedbus_actors.peering_sockets import PeeringSockets
from fedbus_actors.peering_work import Workers
from fedbus_actors.region_keys import KeyPair

RECEIVED_PER_TURN = 100
ANSWERING_THREADS = 4
WORK_WAITING = 1000

log = logging.getLogger(__name__)

Fate = Future[Any]
Posted = tuple[e.Input, Fate]


class PeeringRegion(Protocol):
    """What peering asks of the region it speaks for; called from its threads."""

    def summary(self) -> RegionSummary | None:
        """What peers are to know; at once."""
        ...

    def keep_member(self, address: RegionAddress) -> None:
        """Store what is known of a member."""
        ...

    def groups_heard(self, region: str, records: list[GroupRecord]) -> None:
        """Another region has these definitions."""
        ...

    def answer(self, method: str, arguments: list[Any]) -> Any:
        """Answer another region's call, in values that msgspec can encode."""
        ...

    def note(self, kind: str, message: str) -> None:
        """For people to read."""
        ...


class PeeringConfig(msgspec.Struct, frozen=True):
    """Who speaks, and where it listens. ``known``: regions known from before; ``generation``: the manager's epoch."""

    own: RegionAddress
    host: str
    port: int
    keys: KeyPair
    known: list[RegionAddress]
    generation: int
    settings: PeeringSettings = PeeringSettings()


class PeeringThread:
    """From its making to :meth:`stop`. ``look`` is called when something changed; ``calls``: who waits, by number."""

    def __init__(
        self,
        config: PeeringConfig,
        region: PeeringRegion,
        groups: GroupDefinitions,
        inbox: Inbox[Posted],
        calls: dict[int, Fate],
        look: Callable[[PeeringCore, int, int], None],
    ) -> None:
        self.problem = "it has not begun to listen"
        self._config, self._region, self._inbox, self._calls = config, region, inbox, calls
        self._clock = SystemClock()
        self._core = PeeringCore(
            config.own, config.known, config.generation, self._clock.monotonic_ns(), groups, config.settings
        )
        self._sockets = PeeringSockets(config.keys)
        self._told = look
        self._chores = Workers("peer-chores", 1, WORK_WAITING)
        self._answering = Workers("peer-answers", ANSWERING_THREADS, WORK_WAITING)
        self._stopping = Event()
        self._carried_out: dict[type, Callable[[Any], object]] = {
            e.Admit: lambda effect: self._sockets.admit(effect.keys),
            e.Connect: self._connect,
            e.Disconnect: lambda effect: self._sockets.disconnect(effect.region),
            e.Send: lambda effect: self._sockets.send(effect.region, effect.data),
            e.KeepMember: lambda effect: self._chore(region.keep_member, effect.address),
            e.PeerLost: lambda effect: self._chore(region.note, "peer", f"region {effect.region} does not answer"),
            e.PeerFound: lambda effect: self._chore(region.note, "peer", f"region {effect.region} answers"),
            e.GroupsHeard: lambda effect: self._chore(region.groups_heard, effect.region, effect.records),
            e.Perform: self._perform,
            e.Answered: self._settle,
        }
        self._thread = spawn(f"peering-{config.own.region}", self._run)

    def stop(self) -> None:
        """Speak and hear no more; calls under way fail."""
        self._stopping.set()
        self._inbox.put((e.Tick(None), Future()))  # wakes it up
        self._thread.join()
        self._answering.stop()
        self._chores.stop()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._inbox.fileno(), zmq.POLLIN)
        self._carry_out(self._core.begin(self._clock.monotonic_ns()))
        next_ns = 0
        while not self._stopping.is_set():
            try:
                now_ns = self._clock.monotonic_ns()
                if now_ns >= next_ns:
                    next_ns = now_ns + self._config.settings.interval_ns
                    self._listen(poller)
                    self._handle(e.Tick(self._region.summary()))
                    self._look()
                poller.poll(max(0, next_ns - self._clock.monotonic_ns()) // 1_000_000 + 1)
                self._take_inbox()
                self._receive()
            except Exception:  # the loop must go on: everything is said again
                log.exception("peering of %s: a turn failed", self._config.own.region)
        self._end()

    def _listen(self, poller: zmq.Poller) -> None:
        if not self.problem:
            return
        try:
            poller.register(self._sockets.listen(self._config.host, self._config.port), zmq.POLLIN)
            self.problem = ""
        except EnvironmentUnusableError as error:
            if error.detail != self.problem:
                log.error("%s", error.detail)  # noqa: TRY400 - says it all
            self.problem = error.detail

    def _take_inbox(self) -> None:
        for event, fate in self._inbox.take_all():
            try:
                self._handle(event)
                self._look()
            except FedbusError as error:
                fate.set_exception(error)
            else:
                fate.set_result(None)

    def _look(self) -> None:
        self._told(self._core, self._sockets.refused, self._sockets.unsent)

    def _receive(self) -> None:
        for _ in range(RECEIVED_PER_TURN):
            received = self._sockets.receive()
            if received is None:
                return
            self._handle(e.Received(*received))

    def _handle(self, event: e.Input) -> None:
        self._carry_out(self._core.handle(event, self._clock.monotonic_ns()))

    def _end(self) -> None:
        left = self._inbox.close()
        closed = ClosedError(f"the manager of {self._config.own.region} is ending")
        for fate in [*(fate for _, fate in left), *self._calls.values()]:
            with contextlib.suppress(Exception):  # settled already
                fate.set_exception(closed)
        self._sockets.close()

    # -- effects -------------------------------------------------------------------------------------------------------

    def _carry_out(self, effects: Iterable[e.Effect]) -> None:
        for effect in effects:
            self._carried_out[type(effect)](effect)

    def _chore(self, work: Callable[..., None], *arguments: Any) -> None:
        self._chores.put(partial(work, *arguments))

    def _connect(self, effect: e.Connect) -> None:
        if problem := self._sockets.connect(effect.region, effect.endpoint, effect.public_key):
            log.warning("%s", problem)

    def _perform(self, effect: e.Perform) -> None:
        if not self._answering.put(partial(self._answer, effect)):
            busy = OverloadedError(f"region {self._config.own.region} is answering others", retry_after_ms=500)
            self._inbox.put((e.Performed(effect.region, effect.generation, effect.call, error=busy), Future()))

    def _answer(self, effect: e.Perform) -> None:
        value, error = None, None
        try:
            value = self._region.answer(effect.method, effect.arguments)
        except FedbusError as refused:
            error = refused
        except Exception as failed:
            log.exception("%s, asked by region %s, failed", effect.method, effect.region)
            error = FedbusError(f"{effect.method} failed at region {self._config.own.region}: {failed}")
        self._inbox.put((e.Performed(effect.region, effect.generation, effect.call, value, error), Future()))

    def _settle(self, effect: e.Answered) -> None:
        fate = self._calls.get(effect.call)
        if fate is None:
            return
        if effect.error is not None:
            fate.set_exception(effect.error)
        else:
            fate.set_result(effect.value)
