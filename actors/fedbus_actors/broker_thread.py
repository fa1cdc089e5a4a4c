"""The thread that runs a broker core: its sockets, the disk threads' answers, and time.

Executes effects and decides nothing. Assumes that it alone touches its sockets; other threads reach it through ``post``
and ``call``. What a peer or a manager sends cannot end it; a failure of the core itself, or of the disk threads, does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import zmq

from fedbus.broker import copy_effects as c
from fedbus.broker import effects as e
from fedbus.broker.broker import Broker
from fedbus.broker.recovery import States
from fedbus.clock import Clock
from fedbus.errors import ClosedError, StorageError
from fedbus.storage.disk_threads import DiskThreads
from fedbus.storage.ledger_files import LedgerFiles
from fedbus.threads import spawn
from fedbus_actors.dialled_peers import DialledPeers
from fedbus_actors.execution import Execution, ManagerRequest
from fedbus_actors.inbox import Inbox
from fedbus_actors.region_keys import KeyPair
from fedbus_actors.router_socket import RouterSocket

TICK_NS = 20_000_000
CONGESTED_MS = 1  # how soon a peer that did not read is tried again
DRAIN_AT_ONCE = 256
FINISH_NS = 10_000_000_000  # for the disk to confirm what is under way when the thread is stopped
LINGER_MS = 200
# From the disk threads: a failure of the core in one of these is the instance's, not some peer's.
DISK = (
    e.Durable, e.WriteRefused, e.WriteFailed, e.Records, e.Surveyed, c.LedgerBegun, c.BeginRefused, c.CopyDurable,
    c.CopyRefused, c.CopyFailed, c.Noted, c.RawRecords, c.StateRead, c.Scrubbed,
)  # fmt: skip

log = logging.getLogger(__name__)


class Instruction:
    """An input whose sender waits for it to be applied, and then asks something of the core."""

    def __init__(self, event: e.Input | None, ask: Callable[[Broker], Any]) -> None:
        self.event = event
        self.ask = ask
        self.answer: Future[Any] = Future()


class BrokerThread:
    """Runs ``broker`` behind ``router`` from :meth:`start` to :meth:`stop`.

    ``on_crash`` is told, in the thread, when it cannot go on, and when the core has stopped for good (its ledger was
    taken over). The context and the router belong to the thread from ``start`` on. ``keys``: what it proves to
    instances of other regions.
    """

    def __init__(
        self,
        broker: Broker,
        context: zmq.Context[zmq.Socket[bytes]],
        router: RouterSocket,
        clock: Clock,
        on_crash: Callable[[BaseException], None],
        keys: KeyPair | None = None,
    ) -> None:
        self.broker = broker
        self.internal_errors = 0
        self._clock = clock
        self._on_crash = on_crash
        # Wall time that cannot jump: read once, then carried on by the monotonic clock.
        self._wall_offset_ns = clock.now_ns() - clock.monotonic_ns()
        self._inbox: Inbox[e.Input | Instruction] = Inbox()
        self._context = context
        self._router = router
        self._router.on_lost = lambda session: self.post(e.Unroutable(session))
        self._poller = zmq.Poller()
        self._poller.register(router.socket, zmq.POLLIN)
        self._poller.register(self._inbox.fileno(), zmq.POLLIN)
        self._peers = DialledPeers(context, self._poller, broker.limits, keys)
        self._stopping = False

    def start(self, state: States, files: LedgerFiles, on_request: Callable[[ManagerRequest], None]) -> None:
        """Fold the recorded state in, then serve; ``on_request`` gets, in the thread, what is for the manager."""
        effects = self.broker.start(state, self._now_ns())
        self.disk = DiskThreads(files, self.post, self.broker.limits)
        self._execution = Execution(self._router, self._peers, self.disk, on_request)
        self._thread = spawn(f"broker-{self.broker.instance}", lambda: self._run(effects))

    # -- from other threads --------------------------------------------------------------------------------------------

    def post(self, item: e.Input) -> None:
        """Give the core an input; one that comes after the end is dropped."""
        self._inbox.put(item)

    def call(self, ask: Callable[[Broker], Any], event: e.Input | None = None) -> Future[Any]:
        """Ask the core something between two inputs, or right after this one.

        The future has the answer, the error of either, or :class:`ClosedError` if the thread has ended.
        """
        instruction = Instruction(event, ask)
        if not self._inbox.put(instruction):
            instruction.answer.set_exception(_ended())
        return instruction.answer

    def stop(self) -> None:
        """Write what is under way, answer it, and end; returns when the thread and the disk threads have ended."""
        self._stopping = True
        self.post(e.Tick())
        self._thread.join()

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _run(self, effects: Sequence[e.Effect]) -> None:
        try:
            self._execution.carry_out(effects)
            next_tick_ns = self._clock.monotonic_ns()
            while not self._stopping:
                wait_ms = max(0, (next_tick_ns - self._clock.monotonic_ns()) // 1_000_000)
                congested = self._router.congested or self._peers.congested
                self._turn(min(wait_ms, CONGESTED_MS) if congested else wait_ms)
                if self.broker.stopped:
                    raise StorageError(f"instance {self.broker.instance} has stopped: {self.broker.stopped}")
                if self._clock.monotonic_ns() >= next_tick_ns:
                    next_tick_ns = self._clock.monotonic_ns() + TICK_NS
                    self._handle(e.Tick())
            self._finish()
        except BaseException as error:
            log.exception("broker %s cannot go on", self.broker.instance)
            self._on_crash(error)
        finally:
            self._end()

    def _turn(self, wait_ms: int) -> None:
        ready = dict(self._poller.poll(wait_ms))
        self._take_inbox()
        self._router.flush()
        self._peers.flush()
        if self._router.socket in ready:
            self._take_messages(self._router.receive)
        for endpoint in self._peers.ready(ready):
            self._take_messages(partial(self._peers.receive, endpoint))

    def _finish(self) -> None:
        """Acknowledged means durable, and what is durable should still be answered."""
        self._poller.unregister(self._router.socket)
        self._handle(e.Tick())  # acknowledgements that were waiting for one
        deadline_ns = self._clock.monotonic_ns() + FINISH_NS
        ledgers, ensemble = self.broker.ledgers, self.broker.replication.ensemble
        while ledgers.pending_bytes and not ensemble.frozen_ns and self._clock.monotonic_ns() < deadline_ns:
            self._turn(TICK_NS // 1_000_000)
            self._handle(e.Tick())
        self._router.flush()

    def _end(self) -> None:
        self.disk.close()
        for item in self._inbox.close():
            if isinstance(item, Instruction):
                item.answer.set_exception(_ended())
        self._router.end()
        self._context.destroy(linger=LINGER_MS)

    def _now_ns(self) -> int:
        return self._wall_offset_ns + self._clock.monotonic_ns()

    def _take_inbox(self) -> None:
        for item in self._inbox.take_all():
            if isinstance(item, Instruction):
                self._follow(item)
            elif isinstance(item, DISK):
                self._handle(item)
            else:
                self._try(item)

    def _follow(self, instruction: Instruction) -> None:
        effects: list[e.Effect] = []
        try:
            if instruction.event is not None:
                effects = self.broker.handle(instruction.event, self._now_ns())
            instruction.answer.set_result(instruction.ask(self.broker))
        except Exception as error:  # noqa: BLE001 - the caller gets it
            instruction.answer.set_exception(error)
        self._execution.carry_out(effects)

    def _take_messages(self, receive: Callable[[], e.Input | None]) -> None:
        for _ in range(DRAIN_AT_ONCE):
            message = receive()
            if message is None:
                return
            self._try(message)

    def _try(self, event: e.Input) -> None:
        """Handle what came from outside: our own bug in it must not take everybody's service away."""
        try:
            effects = self.broker.handle(event, self._now_ns())
        except Exception:
            self.internal_errors += 1
            log.exception("broker %s: %s could not be handled", self.broker.instance, type(event).__name__)
            if isinstance(event, e.Received):  # what its sender believes is in doubt: it begins anew
                self._try(e.Unroutable(event.session))
            return
        self._execution.carry_out(effects)

    def _handle(self, event: e.Input) -> None:
        self._execution.carry_out(self.broker.handle(event, self._now_ns()))


def _ended() -> ClosedError:
    return ClosedError("the broker of this instance has ended")
