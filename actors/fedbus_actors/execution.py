"""Carrying out what a broker core asks for: sends, disk work, connections and requests, in the order given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedbus.broker import copy_effects as c
from fedbus.broker import effects as e
from fedbus.broker.protocol import encode
from fedbus.storage.disk_threads import DiskThreads
from fedbus_actors.dialled_peers import DialledPeers
from fedbus_actors.router_socket import RouterSocket

ManagerRequest = c.Request | e.RequestGroup


class Execution:
    """The means of one broker thread: its sockets, the disk threads, and the way to its manager."""

    def __init__(
        self,
        router: RouterSocket,
        peers: DialledPeers,
        disk: DiskThreads,
        on_request: Callable[[ManagerRequest], None],
    ) -> None:
        self._disk = disk
        self._router = router
        self._peers = peers
        self._on_request = on_request

    def carry_out(self, effects: Sequence[e.Effect]) -> None:
        """All of them."""
        for effect in effects:
            match effect:
                case e.Send(session, message, frames):
                    self._router.send(session, [encode(message), *frames])
                case e.SendPeer(endpoint, message, frames):
                    self._peers.send(endpoint, message, frames)
                case e.Forget(session):
                    self._router.forget(session)
                case e.Dial(endpoint, key):
                    self._peers.dial(endpoint, key)
                case e.HangUp(endpoint):
                    self._peers.hang_up(endpoint)
                case c.Request() | e.RequestGroup():
                    self._on_request(effect)
                case _:
                    self._disk.submit(effect)
