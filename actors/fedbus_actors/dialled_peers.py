"""Connections to other instances: one DEALER for each that links pull from, or that replicates with this one.

Those of other regions are encrypted (CURVE): both sides prove a key.

What a peer does not read at once waits in a backlog, bounded in bytes; one that overflows it gets a new connection, and
what waited is dropped: the core, which keeps what is not confirmed, hears that its session is unknown there and begins
it anew. A hello begins a session, and with it a connection: nothing said before it arrives behind it, and a connection
that was cut in one direction, or refused, is not waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import zmq

from fedbus.batch import Buffer
from fedbus.broker.effects import PeerReceived
from fedbus.broker.protocol import Hello, Message, encode
from fedbus.limits import Limits
from fedbus_actors.backlog import Backlog
from fedbus_actors.region_keys import KeyPair
from fedbus_actors.zap import dial_encrypted, dial_promptly

RECONNECT_MS, RECONNECT_MAX_MS = 20, 200
QUEUED_BY_ZEROMQ = 64  # messages for one peer: it counts messages, and they may be large

log = logging.getLogger(__name__)


class _Connection:
    """One DEALER and what waits for it."""

    __slots__ = ("backlog", "key", "socket", "used")

    def __init__(self, socket: zmq.Socket[bytes], key: str) -> None:
        self.socket = socket
        self.key = key
        self.backlog = Backlog()
        self.used = False


class DialledPeers:
    """Connections by endpoint, registered with ``poller``; they belong to one thread. ``keys``: the own region's."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        poller: zmq.Poller,
        limits: Limits,
        keys: KeyPair | None = None,
    ) -> None:
        self._keys = keys
        self._context = context
        self._poller = poller
        self._limits = limits
        self._most_bytes = 2 * limits.uncommitted_bytes  # what is unconfirmed, and once more after a hello
        self._peers: dict[str, _Connection] = {}

    @property
    def congested(self) -> bool:
        """Whether something waits for a peer."""
        return any(peer.backlog.messages for peer in self._peers.values())

    def ready(self, events: dict[object, int]) -> Iterator[str]:
        """Those of whom the poller says that something has come."""
        for endpoint, peer in list(self._peers.items()):
            if peer.socket in events:
                yield endpoint

    def dial(self, endpoint: str, key: str = "") -> None:
        """Connect; reconnects by itself. What is no endpoint is reported and never answers.

        ``key``: public key (Z85) that the other side has to prove; empty: unencrypted, within the region.
        """
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = min(QUEUED_BY_ZEROMQ, self._limits.send_queue_messages)
        socket.rcvhwm = self._limits.receive_queue_messages
        dial_promptly(socket)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, self._limits.frame_bytes)
        try:
            if key:
                if self._keys is None:
                    raise zmq.ZMQError(msg="this instance has no keys to prove to another region")
                dial_encrypted(socket, self._keys, key)
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            log.warning("%s cannot be dialled: %s", endpoint, error)
            return
        self._peers[endpoint] = _Connection(socket, key)
        self._poller.register(socket, zmq.POLLIN)

    def receive(self, endpoint: str) -> PeerReceived | None:
        """The next message; ``None`` if there is none (or nobody of that name any more)."""
        peer = self._peers.get(endpoint)
        if peer is None:
            return None
        try:
            return PeerReceived(endpoint, peer.socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            return None

    def send(self, endpoint: str, message: Message, frames: tuple[Buffer, ...]) -> None:
        """Send now, or as soon as the peer has read what it was sent before."""
        peer = self._peers.get(endpoint)
        if peer is not None and peer.used and isinstance(message, Hello):
            peer = self._anew(endpoint)
        if peer is None:
            return
        peer.used = True
        parts = [encode(message), *frames]
        if peer.backlog.messages or not _try_send(peer, parts):
            peer.backlog.add(parts)
            if peer.backlog.size_bytes > self._most_bytes:
                log.warning("%s does not read what it is sent: %d bytes dropped", endpoint, peer.backlog.size_bytes)
                self._anew(endpoint)

    def flush(self) -> None:
        """Try to send what waits."""
        for peer in self._peers.values():
            while peer.backlog.messages and _try_send(peer, peer.backlog.messages[0]):
                peer.backlog.sent()

    def _anew(self, endpoint: str) -> _Connection | None:
        before = self._peers.get(endpoint)
        self.hang_up(endpoint)
        self.dial(endpoint, before.key if before is not None else "")
        return self._peers.get(endpoint)

    def hang_up(self, endpoint: str) -> None:
        """Close the connection; what waits is dropped."""
        peer = self._peers.pop(endpoint, None)
        if peer is not None:
            self._poller.unregister(peer.socket)
            peer.socket.close(linger=0)


def _try_send(peer: _Connection, parts: list[Buffer]) -> bool:
    """False if ZeroMQ has no room; large frames are not copied."""
    try:
        peer.socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return False
    return True
