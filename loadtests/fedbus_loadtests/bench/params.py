"""The parameters of a bench, as the command line takes them and the JSON repeats them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from fedbus.errors import ConfigurationError
from fedbus_loadtests.bench.bus_under_test import BusUnderTest
from fedbus_loadtests.bench.peers.nats import Nats
from fedbus_loadtests.bench.peers.rabbitmq import PROGRAMS, RabbitMQ
from fedbus_loadtests.bench.peers.redis import Redis
from fedbus_loadtests.bench.system import System

Durability = Literal["bar", "fsync", "default"]
PEERS = ("nats", "redis", "rabbitmq")
NATS_REPLICAS = (1, 3, 5)


class Params(msgspec.Struct, frozen=True, kw_only=True):
    """``events``: None means as many as take ``round_s``. ``durability``: of the peers; ours is always ``fsync``."""

    peers: tuple[str, ...] = ("nats",)
    replicas: int = 1
    durability: Durability = "bar"
    rounds: int = 5
    events: int | None = None
    payload_bytes: int = 256
    round_s: float = 2.0
    rate_eps: float = 1000.0
    connections: int = 100
    topics: int = 10_000
    size_mib: int = 1024  # of the ledger that is recovered

    def systems(self, *, nats_syncs: bool) -> list[System]:
        """Ours and the peers, not yet started; ``nats_syncs`` is what the bar asks of JetStream."""
        sync = {"bar": nats_syncs, "fsync": True, "default": False}[self.durability]
        return [BusUnderTest(replicas=self.replicas), *(self._peer(name, nats_syncs=sync) for name in self.peers)]

    def _peer(self, name: str, *, nats_syncs: bool) -> System:
        if name == "nats":
            return Nats(sync=nats_syncs, replicas=self.replicas)
        if self.replicas > 1:
            raise ConfigurationError(f"{name} is compared with one copy only: leave out --peer {name} or --replicas")
        return Redis(sync=self.durability != "default") if name == "redis" else RabbitMQ()

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON."""
        written: dict[str, Any] = msgspec.to_builtins(self)
        return written


def installed(peer: str) -> bool:
    """Whether a peer's server can be started here."""
    places = {"nats": [Path(sys.executable).parent], "redis": [], "rabbitmq": PROGRAMS}[peer]
    return any((place / f"{peer}-server").exists() for place in places) or shutil.which(f"{peer}-server") is not None


Say = Callable[[str], None]
