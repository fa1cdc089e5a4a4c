"""The sockets of peering: one ROUTER that hears all other regions, one DEALER to speak to each. CURVE, nothing else.

What is sent goes out at once or not at all: all of it is said again, or has a deadline. Assumes one thread.
"""

from __future__ import annotations

from collections.abc import Mapping

import zmq

from fedbus.control.peer_messages import MOST_BYTES
from fedbus.errors import EnvironmentUnusableError
from fedbus_actors.region_keys import KeyPair
from fedbus_actors.zap import AllowList, dial_encrypted, dial_promptly, serve_encrypted

HEARTBEAT_MS = 1_000
SILENCE_MS = 3_000
FAREWELL_MS = 500
QUEUED_BY_ZEROMQ = 100  # messages to or from one peer
SLACK_BYTES = 1024


class PeeringSockets:
    """``keys``: this region's. Nothing is heard before :meth:`listen`. ``unsent``: messages nobody was there for."""

    def __init__(self, keys: KeyPair) -> None:
        self.unsent = 0
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._allowed = AllowList(self._context)
        self._router: zmq.Socket[bytes] | None = None
        self._dealers: dict[str, zmq.Socket[bytes]] = {}

    @property
    def refused(self) -> int:
        """Handshakes with unknown keys."""
        return self._allowed.refused

    def listen(self, host: str, port: int) -> zmq.Socket[bytes]:
        """Bind, and give the socket to be polled; :class:`EnvironmentUnusableError`. Port 0: any that is free."""
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.rcvhwm = QUEUED_BY_ZEROMQ
        socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES + SLACK_BYTES)
        _notice_silence(socket)
        serve_encrypted(socket, self._keys)
        try:
            socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise EnvironmentUnusableError(
                f"cannot listen to other regions on {host}:{port}: {error.strerror}; stop what uses that address, or "
                "choose another with listen.peering or listen.ports of the region"
            ) from None
        self._router = socket
        return socket

    @property
    def port(self) -> int:
        """Where it listens; 0: nowhere yet."""
        if self._router is None:
            return 0
        return int(self._router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def admit(self, regions: Mapping[str, str]) -> None:
        """Exactly these may connect: public key → region."""
        self._allowed.admit(regions)

    def receive(self) -> tuple[str | None, bytes] | None:
        """The next message and the region whose key its connection has proven; ``None`` if there is none."""
        if self._router is None:
            return None
        try:
            frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        data = frames[1].bytes if len(frames) == 2 else b""  # noqa: PLR2004 - the connection, the message
        return self._allowed.sender(frames[-1]), data

    def connect(self, region: str, endpoint: str, public_key: str) -> str:
        """A fresh connection; says what is wrong with an endpoint or key that cannot be used."""
        self.disconnect(region, linger_ms=0)
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = QUEUED_BY_ZEROMQ
        socket.setsockopt(zmq.IMMEDIATE, 1)  # what is old when the connection comes to be is worth nothing
        _notice_silence(socket)
        dial_promptly(socket)
        try:
            dial_encrypted(socket, self._keys, public_key)
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            return f"region {region} cannot be dialled at {endpoint}: {error.strerror}"
        self._dealers[region] = socket
        return ""

    def disconnect(self, region: str, linger_ms: int = FAREWELL_MS) -> None:
        """Close a connection; what was sent may still go out."""
        socket = self._dealers.pop(region, None)
        if socket is not None:
            socket.close(linger=linger_ms)

    def send(self, region: str, data: bytes) -> None:
        """Send, if there is a connection that takes it."""
        socket = self._dealers.get(region)
        try:
            if socket is not None:
                socket.send(data, zmq.NOBLOCK)
                return
        except zmq.Again:
            pass
        self.unsent += 1

    def close(self) -> None:
        """Close everything."""
        for region in list(self._dealers):
            self.disconnect(region)
        if self._router is not None:
            self._router.close(linger=0)
        self._allowed.stop()
        self._context.term()


def _notice_silence(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
