"""What a manager tells an instance of its connections to other regions: what to pull there, and whom to follow."""

from __future__ import annotations

from fedbus.broker import effects as e
from fedbus_actors.broker_thread import BrokerThread

CALL_TIMEOUT_S = 10.0


class LinkControl:
    """The calls; may come from any thread."""

    _thread: BrokerThread

    def _apply(self, event: e.Input) -> None:
        self._thread.call(lambda _: None, event).result(CALL_TIMEOUT_S)

    def apply_links(self, links: list[e.PeerLink], gone: list[str] | None = None) -> None:
        """The links to hold from now on, and origin ledgers that have expired."""
        self._apply(e.ApplyLinks(links, gone or []))

    def apply_follows(self, follows: list[e.PeerFollow]) -> None:
        """Which groups to follow at instances of other regions from now on."""
        self._apply(e.ApplyFollows(follows))
