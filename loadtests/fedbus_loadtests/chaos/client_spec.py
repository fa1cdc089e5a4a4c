"""What a client process of a run is told to do: publishers, readers, or both, as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

# eager: acknowledges at once. slow: one event at a time, with pauses. never: acknowledges nothing until told to hurry.
# picky: gives every third event back the first time. strict: gives poison back every time.
Manner = Literal["eager", "slow", "never", "picky", "strict"]


class PublisherSpec(msgspec.Struct, frozen=True):
    """A producer: numbered events over ``topics`` and ``keys`` keys, ``rate_eps`` events per second if all goes well.

    Everything about an event follows from ``seed``, ``name`` and its number, so that a later incarnation of the
    process can publish it again. One event in ``poison_every`` is poison (0: none).
    ``idempotent``: each event is to count once in the region, wherever it is retried.
    """

    name: str
    topics: tuple[str, ...] = ("chaos.a", "chaos.b")
    keys: int = 7
    rate_eps: float = 250.0
    outstanding: int = 64
    most_bytes: int = 600
    seed: int = 0
    poison_every: int = 0
    idempotent: bool = False


class ReaderSpec(msgspec.Struct, frozen=True):
    """A member of the group ``name``, or (``live``) a stream of that name.

    ``max_deliveries``: after so many an event becomes a dead letter (0: never). ``home``: the region in which the group
    begins, where that is part of what is recorded.
    """

    name: str
    filters: tuple[str, ...] = ("chaos.>",)
    manner: Manner = "eager"
    start: str = "earliest"
    live: bool = False
    max_in_flight: int = 500
    ack_deadline_ms: int = 4000
    max_deliveries: int = 0
    home: str = ""


class ClientSpec(msgspec.Struct, frozen=True):
    """One process: ``history`` is its file; ``former`` are those of its incarnations that were killed."""

    process: str
    urls: list[str]
    history: str
    former: list[str] = []
    publishers: list[PublisherSpec] = []
    readers: list[ReaderSpec] = []
    publish_timeout_ms: int = 10_000
    region: str = ""
