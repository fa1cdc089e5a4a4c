"""A connection: one session with one bus instance over one DEALER socket, made anew whenever it is lost.

Each incarnation is a fresh socket with a random routing id that says ``Hello`` first, so that nothing of an earlier
session can slip into a later one. Lost means: TCP says so (the socket's monitor), the instance no longer knows the
session, or it was silent for :data:`SILENT_TICKS` beats of the owner's timer. Beats are counted, not seconds, because
a loop that was held up hears nothing and must not blame the instance. Requests of a lost session are the owner's to
repeat.

Works on any asyncio loop with ``add_reader`` (on Windows: the selector loop).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any, Protocol

import zmq

from fedbus.broker import protocol as wire
from fedbus.clock import Clock
from fedbus.errors import EnvironmentUnusableError, FedbusError, ProtocolError, from_code
from fedbus.limits import Limits

BEAT_S = 0.25  # the owner calls tick() this often
SILENT_TICKS = 5
RECEIVE_BURST = 256  # messages handled before other tasks get their turn
REOPEN_MIN_S, REOPEN_MAX_S = 0.02, 0.5
PARTING_MS = 200  # how long the socket may still send after close()

# plain numbers: arithmetic on ZeroMQ's enumerations costs more than the calls they are passed to
NOW, MORE_NOW = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
EVENTS, READABLE = int(zmq.EVENTS), int(zmq.POLLIN)

Answer = Callable[[wire.FromInstance], None]
Delivery = Callable[[wire.Deliver | wire.Ended, list[bytes]], None]

log = logging.getLogger("fedbus.client")


class ConnectionOwner(Protocol):
    """Who is told what becomes of a connection."""

    def connection_ready(self, connection: Connection) -> None:
        """A session stands (the first one, or the next after a loss)."""

    def connection_lost(self, connection: Connection, reason: str) -> None:
        """The session ended, or could not be made; another one is being tried. May come repeatedly."""

    def table_pushed(self, data: bytes) -> None:
        """The instance sent an encoded routing table."""

    def round_trip(self, connection: Connection, rtt_ms: float) -> None:
        """A heartbeat came back."""


class Connection:
    """One instance's endpoint and the session with it."""

    def __init__(self, endpoint: str, hello: wire.Hello, owner: ConnectionOwner, limits: Limits, clock: Clock) -> None:
        self.endpoint = endpoint
        self.welcome: wire.Welcome | None = None
        self.ledger = ""  # the one the instance writes, or wrote when last heard of
        self.queue_bytes = 0  # taken by the instance and not yet confirmed, when last heard of
        self.refusal: FedbusError | None = None  # why the last hello was refused for good
        self.deliveries: dict[int, Delivery] = {}
        self._hello = hello
        self._owner = owner
        self._limits = limits
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, Answer] = {}
        self._numbers = 0
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._read_soon = False
        self._silent_ticks = 0
        self._pinged_ns = 0
        self._reopen_s = REOPEN_MIN_S
        self._reopening: asyncio.TimerHandle | None = None
        self._open()

    @property
    def ready(self) -> bool:
        """Whether a session stands."""
        return self.welcome is not None

    def send(self, message: wire.Message, *frames: Any) -> bool:
        """Hand a message to the socket; False if there is no session or its queue is full."""
        return self.welcome is not None and self._send(message, *frames)

    def request(self, answer: Answer) -> int:
        """A request number for one message of this session; ``answer`` is called with what comes back, at most once."""
        self._numbers += 1
        self._answers[self._numbers] = answer
        return self._numbers

    def forget(self, request: int) -> None:
        """Wait no longer for this answer."""
        self._answers.pop(request, None)

    def tick(self) -> None:
        """One beat: ask for a sign of life, and give the session up after too many without one."""
        if self._socket is None:
            return
        self._silent_ticks += 1
        if self._silent_ticks > SILENT_TICKS:
            self.lose(f"{self.endpoint} has been silent for {SILENT_TICKS * BEAT_S:.1f} s")
        elif self.ready and not self._pinged_ns:
            self._pinged_ns = self._clock.monotonic_ns()
            self._send(wire.Ping(self._pinged_ns))

    def lose(self, reason: str) -> None:
        """End this incarnation and begin another after a moment."""
        self._drop(linger_ms=0)
        self._reopening = self._loop.call_later(self._reopen_s, self._open)
        self._reopen_s = min(self._reopen_s * 2, REOPEN_MAX_S)
        self._owner.connection_lost(self, reason)

    def close(self) -> None:
        """Say goodbye and end for good."""
        if self.ready:
            self._send(wire.Goodbye())
        self._drop(linger_ms=PARTING_MS)

    def _open(self) -> None:
        self._reopening = None
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, b"c" + secrets.token_bytes(12))
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.RECONNECT_IVL, 20),
            (zmq.RECONNECT_IVL_MAX, 200),
            (zmq.HANDSHAKE_IVL, 2000),
            (zmq.SNDHWM, self._limits.send_queue_messages),
            (zmq.RCVHWM, self._limits.receive_queue_messages),
            (zmq.MAXMSGSIZE, self._limits.frame_bytes),
            (zmq.IPV6, 1),
        ):
            socket.setsockopt(option, value)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket = socket
        self._silent_ticks = self._pinged_ns = 0
        try:
            socket.connect(self.endpoint)
            self._loop.add_reader(socket.fileno(), self._read)
            self._loop.add_reader(self._monitor.fileno(), self._watch)
        except zmq.ZMQError as error:
            self._drop(linger_ms=0)
            raise EnvironmentUnusableError(f"cannot connect to {self.endpoint}: {error}") from None
        except NotImplementedError:
            self._drop(linger_ms=0)
            raise EnvironmentUnusableError(
                "this event loop cannot watch sockets; on Windows run with asyncio.SelectorEventLoop, for example "
                "asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)"
            ) from None
        self._send(self._hello)

    def _drop(self, linger_ms: int) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        socket, monitor = self._socket, self._monitor
        self._socket = self._monitor = self.welcome = None
        self._answers.clear()
        self.deliveries.clear()
        if socket is not None and monitor is not None:
            for watched in (socket, monitor):
                self._loop.remove_reader(watched.fileno())
            socket.disable_monitor()
            monitor.close(0)
            socket.close(linger_ms)

    def _send(self, message: wire.Message, *frames: Any) -> bool:
        if self._socket is None:
            return False
        try:
            send = self._socket.send
            parts = (wire.encode(message), *frames)
            for part in parts[:-1]:
                send(part, MORE_NOW)
            send(parts[-1], NOW)
        except zmq.Again:
            return False
        if not self._read_soon:  # sending may have swallowed the edge that announces input
            self._read_soon = True
            self._loop.call_soon(self._read)
        return True

    def _read(self) -> None:
        self._read_soon = False
        socket = self._socket
        if socket is None:
            return
        for _ in range(RECEIVE_BURST):
            if not int(socket.getsockopt(EVENTS)) & READABLE:
                return
            self._received(socket.recv_multipart(NOW))
            if self._socket is not socket:
                return
        self._read_soon = True
        self._loop.call_soon(self._read)

    def _watch(self) -> None:
        """The monitor has something to say: the only event it was asked for is the loss of the connection."""
        if self._monitor is not None and int(self._monitor.getsockopt(EVENTS)) & READABLE:
            self.lose(f"the connection to {self.endpoint} broke")

    def _received(self, frames: list[bytes]) -> None:
        self._silent_ticks = 0
        try:
            message = wire.decode_from_instance(frames)
        except ProtocolError as error:
            self.lose(f"{self.endpoint} sent {error}")
            return
        if isinstance(message, wire.Deliver | wire.Ended):
            if (delivery := self.deliveries.get(message.subscription)) is not None:
                delivery(message, frames)
        elif isinstance(message, wire.Published | wire.Ok | wire.Subscribed):
            if (answer := self._answers.pop(message.request, None)) is not None:
                answer(message)
        elif isinstance(message, wire.Refused):
            self._refused(message)
        elif isinstance(message, wire.Pong):
            self.ledger, self.queue_bytes = message.ledger, message.counters.get("unconfirmed_bytes", 0)
            if message.nonce == self._pinged_ns:
                self._owner.round_trip(self, (self._clock.monotonic_ns() - self._pinged_ns) / 1e6)
                self._pinged_ns = 0
        elif isinstance(message, wire.Table):
            self._owner.table_pushed(frames[1])
        elif isinstance(message, wire.Welcome):
            self.welcome, self.ledger, self.refusal = message, message.ledger, None
            self._reopen_s = REOPEN_MIN_S
            self._owner.connection_ready(self)

    def _refused(self, message: wire.Refused) -> None:
        if message.code == "unknown_session":
            self.lose(f"{self.endpoint} no longer knows this session")
        elif (answer := self._answers.pop(message.request, None)) is not None:
            answer(message)
        elif not self.ready:
            self.refusal = from_code(message.code, message.detail, retry_after_ms=message.retry_after_ms)
            self._reopen_s = max(self._reopen_s, message.retry_after_ms / 1000)
            self.lose(f"{self.endpoint} refused the session: {message.detail}")
        else:
            log.warning("%s refused a message: %s (%s)", self.endpoint, message.detail, message.code)
