"""Who may connect: CURVE with an allow-list, by ZeroMQ's authentication protocol (ZAP, RFC 27).

The list maps public keys (Z85) to regions; what is not on it is refused in the handshake, before any message. Who was
refused is not tried again by ZeroMQ: whoever dials makes a fresh connection after a silence. A connection outlives its
key's removal from the list, so whoever reads a message asks :meth:`AllowList.sender` for each. Unencrypted endpoints of
the same context are none of its business: they name no ZAP domain.
"""

from __future__ import annotations

from collections.abc import Mapping

import zmq
from zmq.auth.thread import ThreadAuthenticator

from fedbus_actors.region_keys import KeyPair

DOMAIN = "regions"
HANDSHAKE_MS = 5_000
CONNECT_MS = 2_000
RECONNECT_MS, RECONNECT_MAX_MS = 50, 500


class AllowList:
    """The list of one ZeroMQ context; default deny. Make it before anything is bound. ``refused``: handshakes."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.refused = 0
        self._regions: dict[str, str] = {}
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.configure_curve_callback(DOMAIN, self)
        self._authenticator.start()

    def admit(self, regions: Mapping[str, str]) -> None:
        """Exactly these from now on: public key (Z85) → region. Safe to call from any thread."""
        self._regions = dict(regions)

    def region(self, key: str) -> str | None:
        """Whose key it is."""
        return self._regions.get(key)

    def sender(self, frame: zmq.Frame) -> str | None:
        """The region that sent a frame (received with ``copy=False``).

        ``None``: unencrypted (:func:`user_id` is empty), or no longer on the list.
        """
        return self._regions.get(user_id(frame))

    def callback(self, _domain: str, key: bytes) -> bool:
        """Asked by pyzmq's authenticator (in its thread), with the key in Z85."""
        known = key.decode("ascii", "replace") in self._regions
        self.refused += not known
        return known

    def stop(self) -> None:
        """End the authenticator; nobody can connect any more. Before the context is terminated."""
        self._authenticator.stop()


def user_id(frame: zmq.Frame) -> str:
    """The public key (Z85) that its connection has proven; empty if the connection is unencrypted."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def serve_encrypted(socket: zmq.Socket[bytes], keys: KeyPair) -> None:
    """Let what the socket binds from now on ask for CURVE and the context's :class:`AllowList`.

    What it has bound before stays as it is: libzmq copies the options when it binds.
    """
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt_string(zmq.ZAP_DOMAIN, DOMAIN)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keys.secret)


def dial_encrypted(socket: zmq.Socket[bytes], keys: KeyPair, server_key: str) -> None:
    """Prove ``keys``, and connect to nobody but the owner of ``server_key``; said before the socket connects."""
    socket.setsockopt_string(zmq.CURVE_SERVERKEY, server_key)
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keys.secret)


def dial_promptly(socket: zmq.Socket[bytes]) -> None:
    """Give up on a connection that does not come to be, and try again soon: a cut must not outlast itself."""
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
