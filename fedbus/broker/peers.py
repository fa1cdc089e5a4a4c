"""Connections to other instances: dialled, greeted, kept alive, greeted again after a silence.

Links, replication and hand-overs share them, one per endpoint; each user says which endpoints it needs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fedbus.batch import Buffer
from fedbus.broker import protocol as p
from fedbus.broker.effects import Dial, HangUp, SendPeer
from fedbus.broker.ledger import Ledgers
from fedbus.errors import UnknownSessionError

SILENCE_NS = 3_000_000_000
BEAT_NS = 500_000_000


class Peers:
    """Other instances by endpoint. ``name`` and ``region``: what this instance calls itself."""

    def __init__(self, name: str, region: str, ledgers: Ledgers) -> None:
        self._name = name
        self._region = region
        self._ledgers = ledgers
        self._heard_ns: dict[str, int] = {}
        self._keys: dict[str, str] = {}
        self._welcomed: dict[str, str] = {}  # with the region it says to be of
        self._kept: dict[str, set[str]] = {}  # by user
        self._next_beat_ns = 0

    def keep(self, user: str, endpoints: Collection[str], now_ns: int, keys: Mapping[str, str] | None = None) -> None:
        """What this user needs from now on: new ones are dialled, those that nobody needs any more hung up.

        ``keys``: of endpoints in other regions, the public key (Z85) that each has to prove.
        """
        self._kept[user] = set(endpoints)
        for endpoint in sorted(self._kept[user]):
            self.dial(endpoint, now_ns, (keys or {}).get(endpoint, ""))
        needed = set().union(*self._kept.values())
        for endpoint in [each for each in self._heard_ns if each not in needed]:
            self._hang_up(endpoint)

    def dial(self, endpoint: str, now_ns: int, key: str = "") -> None:
        """Connect and say hello, unless that was done; with another ``key`` than before connect anew."""
        known = self._keys.get(endpoint, "")
        if endpoint in self._heard_ns and key and key != known:
            self._hang_up(endpoint)
        if endpoint not in self._heard_ns:
            self._heard_ns[endpoint] = now_ns
            self._keys[endpoint] = key
            self._ledgers.effects.append(Dial(endpoint, key))
            self._hello(endpoint)

    def _hang_up(self, endpoint: str) -> None:
        del self._heard_ns[endpoint]
        self._keys.pop(endpoint, None)
        self._welcomed.pop(endpoint, None)
        self._ledgers.effects.append(HangUp(endpoint))

    def received(self, endpoint: str, frames: Sequence[Buffer], now_ns: int) -> p.FromInstance | None:
        """What an instance that was dialled says; ``None`` from others, :class:`ProtocolError` if it is no message."""
        if endpoint not in self._heard_ns:
            return None
        message = p.decode_from_instance(frames)
        if isinstance(message, p.Welcome):
            self._welcomed[endpoint] = message.region
        if endpoint in self._welcomed:  # else it speaks in a session that is none any more: no answer to our hello
            self._heard_ns[endpoint] = now_ns
        if isinstance(message, p.Refused) and message.code == UnknownSessionError.code:
            self._welcomed.pop(endpoint, None)
            self._hello(endpoint)
        return message

    def ready(self, endpoint: str) -> bool:
        """Whether a session stands."""
        return endpoint in self._welcomed

    def region_of(self, endpoint: str) -> str:
        """The region of the instance with which a session stands; empty if none does."""
        return self._welcomed.get(endpoint, "")

    def tick(self, now_ns: int) -> None:
        """Heartbeats, and a new hello to who was silent."""
        if now_ns < self._next_beat_ns:
            return
        self._next_beat_ns = now_ns + BEAT_NS
        for endpoint, heard_ns in self._heard_ns.items():
            if now_ns - heard_ns > SILENCE_NS:
                self._heard_ns[endpoint] = now_ns
                self._welcomed.pop(endpoint, None)
                self._hello(endpoint)
            elif endpoint in self._welcomed:
                self.send(endpoint, p.Ping())

    def _hello(self, endpoint: str) -> None:
        self.send(endpoint, p.Hello(p.OLDEST_PROTOCOL_VERSION, p.PROTOCOL_VERSION, "peer", self._name, self._region))

    def send(self, endpoint: str, message: p.Message, frames: tuple[Buffer, ...] = ()) -> None:
        """Say something."""
        self._ledgers.effects.append(SendPeer(endpoint, message, frames))
