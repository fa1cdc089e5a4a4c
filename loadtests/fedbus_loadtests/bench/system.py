"""A system under test: ours or a peer, with the verbs that benches compare.

A system brings its servers up when entered and ends them in any case. Its verbs run one round of a load in this
process and say how long it took; what is random, how many events and how often is the bench's business.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from types import TracebackType
from typing import Any, ClassVar, Self

import msgspec

from fedbus.clock import SystemClock
from fedbus.errors import ConfigurationError

Tuning = Mapping[str, int]
CLOCK = SystemClock()
DISTINCT_PAYLOADS = 65_536  # in a row: no codec's window finds a repetition


class Load(msgspec.Struct, frozen=True):
    """What one round publishes or consumes: random ``payloads``, ``events`` of them, spread over ``topics``."""

    events: int
    payloads: Sequence[bytes]
    topics: Sequence[str] = ("bench.events",)
    name: str = "r0"  # of the round: names of groups and consumers are made of it

    def pairs(self) -> Iterator[tuple[str, bytes]]:
        """Topic and payload of each event; several topics are drawn at random once, before the clock runs."""
        if len(self.topics) == 1:
            topic = self.topics[0]
            return ((topic, payload) for payload in islice(cycle(self.payloads), self.events))
        return iter(list(zip(self._drawn(), islice(cycle(self.payloads), self.events), strict=True)))

    def _drawn(self) -> list[str]:
        count = len(self.topics)
        return [self.topics[int.from_bytes(secrets.token_bytes(4)) % count] for _ in range(self.events)]


def random_payloads(payload_bytes: int, count: int = DISTINCT_PAYLOADS) -> list[bytes]:
    """Different random payloads."""
    blob = secrets.token_bytes(payload_bytes * count)
    return [blob[start : start + payload_bytes] for start in range(0, len(blob), payload_bytes)]


class Sample(msgspec.Struct):
    """One round: how many events in how many seconds, and where measured each one's latencies in ms."""

    events: int
    seconds: float
    acknowledged_ms: list[float] = []
    delivered_ms: list[float] = []

    @property
    def events_per_s(self) -> float:
        """The rate."""
        return self.events / self.seconds


class About(msgspec.Struct, frozen=True):
    """What has to be said beside a system's figures. ``quorum``: on how many servers' disks, of how many."""

    version: str
    durability: str
    quorum: str
    tuning: dict[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON; ``durability`` is called class there."""
        return {"version": self.version, "class": self.durability, "quorum": self.quorum, "tuning": self.tuning}


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began_ns = CLOCK.monotonic_ns()

    @property
    def seconds(self) -> float:
        """So far."""
        return (CLOCK.monotonic_ns() - self._began_ns) / 1e9


class System(ABC):
    """One system with its servers. ``tuning`` is what its client is told; ``choices`` what a scan may try, by verb."""

    name: ClassVar[str]
    choices: ClassVar[Mapping[str, Sequence[Tuning]]] = {}

    def __init__(self) -> None:
        self.tuning: Tuning = {}

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @abstractmethod
    async def start(self) -> None:
        """Start its servers; :class:`EnvironmentUnusableError` says what is missing and how to install it."""

    @abstractmethod
    async def stop(self) -> None:
        """End them, whatever state they are in."""

    @abstractmethod
    def about(self, verb: str) -> About:
        """What its figures for this verb stand for."""

    async def publish(self, load: Load) -> Sample:
        """One producer publishes everything; done when all is acknowledged."""
        raise self._incomparable("publish")

    async def fill(self, load: Load) -> None:
        """Store events for ``consume``."""
        raise self._incomparable("consume")

    async def consume(self, load: Load, *, durable: bool) -> Sample:
        """A new durable group takes what ``fill`` stored and acknowledges each event, durably or buffered."""
        raise self._incomparable("consume")

    async def latency(self, load: Load, rate_eps: float) -> Sample:
        """Single events in an open loop."""
        raise self._incomparable("latency")

    async def fanout(self, load: Load, connections: int) -> Sample:
        """Every event to every connection; counted are deliveries to user code."""
        raise self._incomparable("fanout")

    def _incomparable(self, verb: str) -> ConfigurationError:
        return ConfigurationError(f"bench {verb} has no counterpart in {self.name}: leave out --peer {self.name}")
