"""Connections to other instances: one DEALER for each that links pull from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import zmq

from fedbus.batch import Buffer
from fedbus.limits import Limits

RECONNECT_MS, RECONNECT_MAX_MS = 20, 200

log = logging.getLogger(__name__)


class DialledPeers:
    """Sockets by endpoint, registered with ``poller``; they belong to one thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], poller: zmq.Poller, limits: Limits) -> None:
        self._context = context
        self._poller = poller
        self._limits = limits
        self._peers: dict[str, zmq.Socket[bytes]] = {}

    def ready(self, events: dict[object, int]) -> Iterator[str]:
        """Those of whom the poller says that something has come."""
        for endpoint, peer in list(self._peers.items()):
            if peer in events:
                yield endpoint

    def dial(self, endpoint: str) -> None:
        """Connect; reconnects by itself. What is no endpoint is reported and never answers."""
        peer = self._context.socket(zmq.DEALER)
        peer.linger = 0
        peer.rcvhwm = self._limits.receive_queue_messages
        peer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        peer.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        peer.setsockopt(zmq.MAXMSGSIZE, self._limits.frame_bytes)
        try:
            peer.connect(endpoint)
        except zmq.ZMQError as error:
            peer.close(linger=0)
            log.warning("%s cannot be dialled: %s", endpoint, error.strerror)
            return
        self._peers[endpoint] = peer
        self._poller.register(peer, zmq.POLLIN)

    def receive(self, endpoint: str) -> list[bytes] | None:
        """The next message; ``None`` if there is none (or nobody of that name any more)."""
        peer = self._peers.get(endpoint)
        if peer is None:
            return None
        try:
            return peer.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def send(self, endpoint: str, parts: list[Buffer]) -> None:
        """Send if there is room; else the peer does not answer, and the link that notices the silence starts anew."""
        peer = self._peers.get(endpoint)
        if peer is not None:
            with contextlib.suppress(zmq.Again):
                peer.send_multipart(parts, zmq.NOBLOCK)

    def hang_up(self, endpoint: str) -> None:
        """Close the connection."""
        peer = self._peers.pop(endpoint, None)
        if peer is not None:
            self._poller.unregister(peer)
            peer.close(linger=0)
