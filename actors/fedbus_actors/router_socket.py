"""The socket of a bus instance: one ROUTER for producers, subscribers, links and probes.

It has two endpoints: one for the own region (unencrypted), and the link endpoint for instances of other regions, which
have to prove a key that the manager has allowed (CURVE); what they say carries the region that the key belongs to.

What a peer does not read at once waits in a backlog, bounded in bytes; a peer that overflows it loses its session,
which loses nothing: it says hello again and goes on from its cursor or its unacknowledged events. ZeroMQ keeps a few
messages more, and closes connections whose peer gives no sign of life.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import zmq

from fedbus.batch import Buffer
from fedbus.broker.effects import Received
from fedbus.errors import EnvironmentUnusableError
from fedbus.limits import Limits
from fedbus_actors.backlog import Backlog
from fedbus_actors.region_keys import KeyPair
from fedbus_actors.zap import AllowList, serve_encrypted, user_id

HANDSHAKE_MS = 5_000
HEARTBEAT_MS = 5_000
SILENCE_MS = 15_000  # longer than a session lives without a message
DROPPED_AT_ONCE = 64  # from a region that is let in no more; then others have their turn
QUEUED_BY_ZEROMQ = 64  # messages for one peer: it counts messages, and they may be large


class LinkEndpoint(msgspec.Struct, frozen=True):
    """Where instances of other regions connect: ``port`` (0: any), the own region's keys, and whose keys are let in."""

    port: int
    keys: KeyPair
    allowed: AllowList


class RouterSocket:
    """Bound to ``host:port`` (0: any free port); belongs to one thread. ``on_lost`` is told of unreachable peers.

    ``link_port``: of the link endpoint (0: there is none). Raises :class:`EnvironmentUnusableError` if an address is
    not to be had.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        host: str,
        port: int,
        limits: Limits,
        links: LinkEndpoint | None = None,
    ) -> None:
        self.on_lost: Callable[[bytes], None] = lambda _: None
        self._most_bytes = limits.member_credit_bytes
        self._backlogs: dict[bytes, Backlog] = {}
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.sndhwm = min(QUEUED_BY_ZEROMQ, limits.send_queue_messages)
        self.socket.rcvhwm = limits.receive_queue_messages
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.socket.setsockopt(zmq.MAXMSGSIZE, limits.frame_bytes)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
        self._allowed = links.allowed if links is not None else None
        self.port = self._bind(host, port)
        self.link_port = 0
        if links is not None:
            serve_encrypted(self.socket, links.keys)  # what is bound before stays as it is
            self.link_port = self._bind(host, links.port)

    def _bind(self, host: str, port: int) -> int:
        try:
            self.socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            self.socket.close(linger=0)
            raise EnvironmentUnusableError(
                f"cannot listen on {host}:{port}: {error.strerror}; stop what uses that address, or choose another "
                "host or port range in the federation file"
            ) from None
        return int(self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    @property
    def congested(self) -> bool:
        """Whether something waits for a peer."""
        return bool(self._backlogs)

    def receive(self) -> Received | None:
        """The next message; ``None`` if there is none. What comes under a key no longer allowed is dropped."""
        try:
            if self._allowed is None:
                session, *frames = self.socket.recv_multipart(zmq.NOBLOCK)
                return Received(session, frames)
            for _ in range(DROPPED_AT_ONCE):
                first = self.socket.recv(zmq.NOBLOCK, copy=False)
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
                if not (key := user_id(first)):
                    return Received(first.bytes, frames)
                if region := self._allowed.region(key):
                    return Received(first.bytes, frames, region)
        except zmq.Again:
            pass
        return None

    def send(self, session: bytes, parts: list[Buffer]) -> None:
        """Send now, or as soon as the peer has read what it was sent before."""
        backlog = self._backlogs.get(session)
        if backlog is None:
            if self._try_send(session, parts):
                return
            backlog = self._backlogs[session] = Backlog()
        backlog.add(parts)
        if backlog.size_bytes > self._most_bytes:
            self._lose(session)

    def flush(self) -> None:
        """Try to send what waits."""
        for session, backlog in list(self._backlogs.items()):
            while backlog.messages and self._try_send(session, backlog.messages[0]):
                backlog.sent()
            if not backlog.messages:
                self._backlogs.pop(session, None)

    def forget(self, session: bytes) -> None:
        """Do not send what waits for this peer."""
        self._backlogs.pop(session, None)

    def end(self) -> None:
        """Let nobody of other regions in any more; before the context is destroyed."""
        if self._allowed is not None:
            self._allowed.stop()

    def _try_send(self, session: bytes, parts: list[Buffer]) -> bool:
        """False if the peer's queue is full (no credit left in ZeroMQ's terms)."""
        try:
            self.socket.send_multipart([session, *parts], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._lose(session)
        return True

    def _lose(self, session: bytes) -> None:
        self._backlogs.pop(session, None)
        self.on_lost(session)
