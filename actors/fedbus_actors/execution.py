"""Carrying out what a broker core asks for: sends, writes, reads and connections, in the order given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedbus.batch import Buffer
from fedbus.broker import effects as e
from fedbus.broker.protocol import Message, encode
from fedbus.limits import Limits
from fedbus.storage.committer import Committer
from fedbus.storage.ledger_files import LedgerFiles
from fedbus.storage.read_worker import Reader, ReadsLedgers
from fedbus_actors.dialled_peers import DialledPeers
from fedbus_actors.router_socket import RouterSocket


class Execution:
    """The means of one broker thread: its sockets, and the two disk threads, whose answers go to ``post``."""

    def __init__(
        self,
        router: RouterSocket,
        peers: DialledPeers,
        files: LedgerFiles,
        held: ReadsLedgers,
        post: Callable[[e.Input], None],
        limits: Limits,
    ) -> None:
        self._router = router
        self._peers = peers
        self._committer = Committer(files, post, limits=limits)
        self._reader = Reader(held, post, limits=limits)

    def carry_out(self, effects: Sequence[e.Effect]) -> None:
        """All of them."""
        for effect in effects:
            match effect:
                case e.Send(session, message, frames):
                    self._router.send(session, _parts(message, frames))
                case e.Forget(session):
                    self._router.forget(session)
                case e.Write() | e.RollSegment():
                    self._committer.submit(effect)
                case e.Read():
                    self._reader.submit(effect)
                case e.SendPeer(endpoint, message, frames):
                    self._peers.send(endpoint, _parts(message, frames))
                case e.Dial(endpoint):
                    self._peers.dial(endpoint)
                case e.HangUp(endpoint):
                    self._peers.hang_up(endpoint)

    def close(self) -> None:
        """Let the disk threads finish and end."""
        self._committer.close()
        self._reader.close()


def _parts(message: Message, frames: Sequence[Buffer]) -> list[Buffer]:
    return [encode(message), *frames]
