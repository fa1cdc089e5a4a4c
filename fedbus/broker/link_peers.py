"""The connections of links to origin instances: dialled, greeted, kept alive, greeted again after a silence."""

from __future__ import annotations

from collections.abc import Collection

from fedbus.broker import protocol as p
from fedbus.broker.effects import Dial, HangUp, SendPeer
from fedbus.broker.ledger import Ledgers

SILENCE_NS = 3_000_000_000


class LinkPeers:
    """Origin instances by endpoint. ``name`` and ``region``: what this instance calls itself."""

    def __init__(self, name: str, region: str, ledgers: Ledgers) -> None:
        self._name = name
        self._region = region
        self._ledgers = ledgers
        self._heard_ns: dict[str, int] = {}
        self._welcomed: set[str] = set()

    def dial(self, endpoint: str, now_ns: int) -> None:
        """Connect and say hello, unless that was done."""
        if endpoint not in self._heard_ns:
            self._heard_ns[endpoint] = now_ns
            self._ledgers.effects.append(Dial(endpoint))
            self.hello(endpoint)

    def keep(self, endpoints: Collection[str]) -> None:
        """Hang up on all others."""
        for endpoint in [each for each in self._heard_ns if each not in endpoints]:
            del self._heard_ns[endpoint]
            self._welcomed.discard(endpoint)
            self._ledgers.effects.append(HangUp(endpoint))

    def heard(self, endpoint: str, now_ns: int) -> bool:
        """A message came; False if it is from nobody who was dialled."""
        known = endpoint in self._heard_ns
        if known:
            self._heard_ns[endpoint] = now_ns
        return known

    def welcomed(self, endpoint: str) -> None:
        """A session stands."""
        self._welcomed.add(endpoint)

    def ready(self, endpoint: str) -> bool:
        """Whether a session stands."""
        return endpoint in self._welcomed

    def beat(self, now_ns: int) -> None:
        """Heartbeats, and a new hello to who was silent."""
        for endpoint, heard_ns in self._heard_ns.items():
            if now_ns - heard_ns > SILENCE_NS:
                self._heard_ns[endpoint] = now_ns
                self._welcomed.discard(endpoint)
                self.hello(endpoint)
            elif endpoint in self._welcomed:
                self.send(endpoint, p.Ping())

    def hello(self, endpoint: str) -> None:
        """Begin a session."""
        self.send(endpoint, p.Hello(p.OLDEST_PROTOCOL_VERSION, p.PROTOCOL_VERSION, "link", self._name, self._region))

    def send(self, endpoint: str, message: p.Message) -> None:
        """Say something."""
        self._ledgers.effects.append(SendPeer(endpoint, message))
