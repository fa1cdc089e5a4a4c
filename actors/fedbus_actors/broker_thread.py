"""The thread that runs a broker core: one ROUTER socket, the disk threads' answers, links to other instances, and time.

Executes effects and decides nothing. Assumes that it alone touches its sockets; other threads reach it through ``post``
(an inbox with a wake-up pipe). What a peer cannot take at once waits in a bounded backlog; a peer that overflows it
loses its session, which loses nothing: it says hello again and goes on from its cursor.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import zmq

from fedbus.batch import Buffer
from fedbus.broker import effects as e
from fedbus.broker.broker import Broker
from fedbus.broker.protocol import encode
from fedbus.clock import Clock
from fedbus.errors import EnvironmentUnusableError
from fedbus.storage.committer import Committer
from fedbus.storage.ledger_files import LedgerFiles
from fedbus.storage.read_worker import Reader, ReadsLedgers
from fedbus.threads import spawn

TICK_NS = 20_000_000
DRAIN_AT_ONCE = 256
HANDSHAKE_MS = 5_000

log = logging.getLogger(__name__)


class BrokerThread:
    """Runs ``broker`` on ``host:port``, writing to ``files`` and reading from ``held``, until :meth:`stop`; ``on_crash`` is told when it cannot go on."""

    def __init__(
        self,
        broker: Broker,
        files: LedgerFiles,
        held: ReadsLedgers,
        host: str,
        port: int,
        clock: Clock,
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self.broker = broker
        self.internal_errors = 0
        self._limits = broker.limits
        self._clock = clock
        self._on_crash = on_crash
        # Wall time that cannot jump: read once, then carried on by the monotonic clock.
        self._wall_offset_ns = clock.now_ns() - clock.monotonic_ns()
        self._inbox: deque[e.Input | Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._context = zmq.Context()
        self._router = self._bind(host, port)
        self.port = int(self._router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self._peers: dict[str, zmq.Socket[bytes]] = {}
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._wake_read, zmq.POLLIN)
        self._backlogs: dict[bytes, deque[list[Buffer]]] = {}
        self._stopping = False
        self._committer = Committer(files, self.post, limits=broker.limits)
        self._reader = Reader(held, self.post, limits=broker.limits)
        self._thread = spawn(f"broker-{broker.instance}", self._run)

    def _bind(self, host: str, port: int) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.linger = 0
        router.sndhwm = self._limits.send_queue_messages
        router.rcvhwm = self._limits.receive_queue_messages
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.MAXMSGSIZE, self._limits.frame_bytes)
        router.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        try:
            router.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise EnvironmentUnusableError(
                f"instance {self.broker.instance} cannot listen on {host}:{port}: {error.strerror}; "
                "stop what uses that port, or choose another port range in the federation file"
            ) from None
        return router

    # -- from other threads --------------------------------------------------------------------------------------------

    def post(self, item: e.Input | Callable[[], None]) -> None:
        """Give the thread an input, or something to call in it."""
        self._inbox.append(item)
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already

    def call(self, ask: Callable[[Broker], Any]) -> Future[Any]:
        """Ask the core something between two inputs; the future has the answer."""
        answer: Future[Any] = Future()

        def run() -> None:
            try:
                answer.set_result(ask(self.broker))
            except Exception as error:  # noqa: BLE001 - the caller gets it
                answer.set_exception(error)

        self.post(run)
        return answer

    def stop(self) -> None:
        """Write what is under way, answer it, and end; returns when the thread and the disk threads have ended."""
        self.post(self._request_stop)
        self._thread.join()

    def _request_stop(self) -> None:
        self._stopping = True

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            next_tick_ns = self._clock.monotonic_ns()
            while not self._stopping:
                wait_ms = max(0, (next_tick_ns - self._clock.monotonic_ns()) // 1_000_000)
                ready = dict(self._poller.poll(wait_ms))
                self._take_inbox()
                if self._router in ready:
                    self._take_messages()
                for endpoint, peer in list(self._peers.items()):
                    if peer in ready:
                        self._take_from_peer(endpoint, peer)
                if self._clock.monotonic_ns() >= next_tick_ns:
                    next_tick_ns = self._clock.monotonic_ns() + TICK_NS
                    self._flush_backlogs()
                    self._handle(e.Tick())
            self._finish()
        except BaseException as error:  # noqa: BLE001 - whoever owns the thread decides what a crash means
            log.exception("broker %s cannot go on", self.broker.instance)
            self._on_crash(error)
        finally:
            self._context.destroy(linger=200)

    def _finish(self) -> None:
        """Acknowledged means durable, and what is durable should still be answered."""
        self._committer.close()
        self._take_inbox()
        self._reader.close()
        self._take_inbox()

    def start_core(self, effects: list[e.Effect]) -> None:
        """Execute the effects of ``Broker.start`` in the thread."""
        self.post(lambda: self._execute(effects))

    def now_ns(self) -> int:
        """The time the core sees."""
        return self._wall_offset_ns + self._clock.monotonic_ns()

    def _take_inbox(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass
        for _ in range(len(self._inbox)):
            item = self._inbox.popleft()
            if callable(item):
                item()
            else:
                self._handle(item)

    def _take_messages(self) -> None:
        receive = self._router.recv_multipart
        for _ in range(DRAIN_AT_ONCE):
            try:
                session, *frames = receive(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._handle(e.Received(session, frames))
            except Exception:  # our bug: one peer's message must not take the others' service away
                self.internal_errors += 1
                log.exception("broker %s: a message could not be handled", self.broker.instance)
                self._execute(self.broker.handle(e.Unroutable(session), self.now_ns()))

    def _take_from_peer(self, endpoint: str, peer: zmq.Socket[bytes]) -> None:
        for _ in range(DRAIN_AT_ONCE):
            try:
                frames = peer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._handle(e.PeerReceived(endpoint, frames))
            if endpoint not in self._peers:
                return

    def _handle(self, event: e.Input) -> None:
        self._execute(self.broker.handle(event, self.now_ns()))

    def _execute(self, effects: Sequence[e.Effect]) -> None:
        for effect in effects:
            match effect:
                case e.Send(session, message, frames):
                    self._send(session, [encode(message), *frames])
                case e.Write() | e.RollSegment():
                    self._committer.submit(effect)
                case e.Read():
                    self._reader.submit(effect)
                case e.SendPeer(endpoint, message, frames):
                    self._send_peer(endpoint, [encode(message), *frames])
                case e.Dial(endpoint):
                    self._dial(endpoint)
                case e.HangUp(endpoint):
                    peer = self._peers.pop(endpoint, None)
                    if peer is not None:
                        self._poller.unregister(peer)
                        peer.close(linger=0)

    # -- sockets -------------------------------------------------------------------------------------------------------

    def _send(self, session: bytes, parts: list[Buffer]) -> None:
        backlog = self._backlogs.get(session)
        if backlog is not None:
            backlog.append(parts)
            if len(backlog) > self._limits.send_queue_messages:
                self._drop(session)
            return
        if not self._try_send(session, parts):
            self._backlogs[session] = deque([parts])

    def _try_send(self, session: bytes, parts: list[Buffer]) -> bool:
        """False if the peer's queue is full (no credit left in ZeroMQ's terms)."""
        try:
            self._router.send_multipart([session, *parts], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._drop(session)
        return True

    def _drop(self, session: bytes) -> None:
        self._backlogs.pop(session, None)
        self.post(e.Unroutable(session))

    def _flush_backlogs(self) -> None:
        for session, backlog in list(self._backlogs.items()):
            while backlog and self._try_send(session, backlog[0]):
                backlog.popleft()
            if not backlog:
                self._backlogs.pop(session, None)

    def _dial(self, endpoint: str) -> None:
        peer = self._context.socket(zmq.DEALER)
        peer.linger = 0
        peer.setsockopt(zmq.RECONNECT_IVL, 20)
        peer.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        peer.setsockopt(zmq.MAXMSGSIZE, self._limits.frame_bytes)
        peer.rcvhwm = self._limits.receive_queue_messages
        peer.connect(endpoint)
        self._peers[endpoint] = peer
        self._poller.register(peer, zmq.POLLIN)

    def _send_peer(self, endpoint: str, parts: list[Buffer]) -> None:
        peer = self._peers.get(endpoint)
        if peer is None:
            return
        try:
            peer.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            pass  # its queue is full because it does not answer: the link notices the silence and starts anew
