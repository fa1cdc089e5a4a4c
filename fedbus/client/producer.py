"""A producer: encodes events, collects them into batches per owner and keeps what is unanswered within bounds.

``send`` is the hot path: one encode, one append, no task and no future per event. Batches leave when they are full or
after ``linger_ms``. What happens to a batch afterwards is the outbox's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from zlib import crc32

from fedbus.batch import BatchBuilder
from fedbus.broker.policies import Policies
from fedbus.client.event_writer import EventWriter
from fedbus.client.outbox import Outbox
from fedbus.client.parcel import Parcel
from fedbus.client.pinned import PinnedProducers
from fedbus.client.receipt import Claim, Outcome, Receipt, Ticket
from fedbus.client.schema_guard import SchemaGuard
from fedbus.client.window import Windows
from fedbus.clock import Clock
from fedbus.compression import Compression, check_compression
from fedbus.errors import FedbusError, UnavailableError
from fedbus.event import Event
from fedbus.keys import SLOTS, identity_hash
from fedbus.limits import Limits

LINGER_MS = 3
BATCH_EVENTS = 1000
BATCH_BYTES = 512 * 1024
TIMEOUT_MS = 30_000
OPEN_BATCHES = 1024  # being filled at once, one per owner and topic, when batches are compressed


class Filling:
    """A batch being filled for one owner (None: keyless, the owner is picked when it is full).

    ``topics``: when batches are compressed, which hold one topic each, the fillings of this owner by topic. ``geo``:
    whether what is in it counts only once a second region has it.
    """

    __slots__ = ("builder", "claims", "generation", "geo", "owner", "timer", "topics")

    def __init__(self, owner: str | None, generation: int) -> None:
        self.owner = owner
        self.topics: dict[str, Filling] = {}
        self.generation = generation
        self.geo = False
        self.builder = BatchBuilder()
        self.claims: list[Claim | None] | None = None  # by event, once there is one
        self.timer: asyncio.Handle | None = None


class Producer:
    """Publishes through a bus; made by :meth:`Bus.producer`. Use it as an async context manager."""

    def __init__(  # noqa: PLR0913 - one caller, Bus.producer, which documents them
        self,
        outbox: Outbox,
        source: str,
        limits: Limits,
        clock: Clock,
        guard: SchemaGuard,
        *,
        linger_ms: float = LINGER_MS,
        batch_events: int = BATCH_EVENTS,
        batch_bytes: int = BATCH_BYTES,
        timeout_ms: int = TIMEOUT_MS,
        max_in_flight: int = 0,
        idempotent: bool = False,
        compression: Compression | None = None,
        policies: Policies | None = None,
        pinned: PinnedProducers | None = None,
    ) -> None:
        self._outbox = outbox
        self._turns = outbox.turns
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._linger_s = linger_ms / 1000
        self._batch_events = max(1, min(batch_events, limits.batch_events))
        self._batch_bytes = max(1, min(batch_bytes, limits.batch_bytes // 2))
        self._timeout_ns = timeout_ms * 1_000_000
        self._compressed = check_compression(compression) is not None
        self._policies = policies or Policies()
        self._pinned = pinned or PinnedProducers(self._policies)
        self._source = source
        self._windows = Windows(limits, idempotent=idempotent, max_in_flight=max_in_flight)
        self._writer = EventWriter(self._windows.name, source, limits, clock, guard)
        self._generation = -1
        self._slots: list[Filling | None] = []  # by key slot; the last is for events without a key
        self._fillings: dict[str | None, Filling] = {}
        self._by_topic: list[Filling] = []

    @property
    def acknowledged(self) -> int:
        """How many of its events are durable."""
        return self._windows.acknowledged + self._pinned.acknowledged

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._pinned.close(kind, error)
            if error is None:
                await self.flush()
            elif isinstance(error, Exception):
                await self._drain()
        finally:
            self._writer.close()

    async def send(
        self,
        topic: str,
        data: Any,
        *,
        key: str | None = None,
        type: str | None = None,
        attributes: Mapping[str, str | int | bool] | None = None,
        id: str | None = None,
        time: str | datetime | None = None,
        content_type: str | None = None,
    ) -> None:
        """Take an event for publishing; waits only while too much is unanswered.

        Raises at once what is wrong with the event, and what has failed for good since the last call (as ``flush``
        does).
        """
        if self._policies.pinned and (other := self._pinned.of(topic, self)) is not self:
            await other.send(
                topic, data, key=key, type=type, attributes=attributes, id=id, time=time, content_type=content_type
            )
            return
        if self._windows.failing:
            self._windows.raise_failure()
        identity = 0
        if self._policies.rules and self._policies.dedup_window_ms(topic):
            id = id or self._writer.next_id()
            identity = identity_hash(self._source, id)
        event = self._writer.write(topic, data, key, type, attributes, id, time, content_type)
        filling = self._add(topic, key, event, None, identity)
        if filling is not None:
            window = self._windows.of(geo=filling.geo)
            self._ship(filling)
            await (asyncio.sleep(0) if window.has_room else window.room())

    async def publish(
        self,
        topic: str,
        data: Any,
        *,
        key: str | None = None,
        type: str | None = None,
        attributes: Mapping[str, str | int | bool] | None = None,
        id: str | None = None,
        time: str | datetime | None = None,
        content_type: str | None = None,
    ) -> Receipt:
        """Publish an event and wait until it is durable; raises the typed error if it was refused or timed out."""
        if self._policies.pinned and (other := self._pinned.of(topic, self)) is not self:
            return await other.publish(
                topic, data, key=key, type=type, attributes=attributes, id=id, time=time, content_type=content_type
            )
        await self._windows.of(geo=self._policies.in_second_region(topic)).room()
        given = id or self._writer.next_id()
        event = self._writer.write(topic, data, key, type, attributes, given, time, content_type)
        ticket = Ticket(1, self._loop)
        identity = identity_hash(self._source, given) if self._policies.dedup_window_ms(topic) else 0
        if (full := self._add(topic, key, event, (ticket, 0, given), identity)) is not None:
            self._ship(full)
        await ticket.done
        outcome = ticket.outcomes[0]
        if isinstance(outcome, FedbusError):
            raise outcome
        assert outcome is not None, "a ticket is done before its outcome is known"
        return outcome

    async def publish_events(self, events: Sequence[tuple[str, Event]]) -> list[Outcome]:
        """Publish finished events; answers with one outcome per event, in order: its receipt or its error."""
        ticket = Ticket(len(events), self._loop)
        for place, (topic, event) in enumerate(events):
            by = self._pinned.of(topic, self)
            await by._windows.of(geo=self._policies.in_second_region(topic)).room()  # noqa: SLF001 - one of this class
            try:
                self._writer.check(topic, event.datacontenttype, event.payload, event.key, event.attributes)
                identity = identity_hash(event.source, event.id) if self._policies.dedup_window_ms(topic) else 0
                claim = (ticket, place, event.id)
                full = by._add(topic, event.key, event.encode(), claim, identity)  # noqa: SLF001
            except FedbusError as error:
                ticket.settle(place, error)
            else:
                if full is not None:
                    by._ship(full)  # noqa: SLF001
        if events:
            await ticket.done
        return [outcome for outcome in ticket.outcomes if outcome is not None]

    async def flush(self) -> None:
        """Wait until everything sent before is settled; raises the first failure, with how many events failed."""
        await self._drain()
        await self._pinned.flush()
        self._windows.raise_failure()

    def _add(
        self, topic: str, key: str | None, event: bytes, claim: Claim | None = None, identity: int = 0
    ) -> Filling | None:
        """Put an event into its batch; returns the batch if it is full now.

        ``identity``: 0, or the hash of its source and id, by which it is placed if it has no key.
        """
        if self._generation != self._turns.generation:
            self._new_generation()
        if key is not None:
            hashed = crc32(key.encode()) or 1  # as keys.key_hash, without the call
            filling = self._slots[hashed & (SLOTS - 1)]
        elif identity:
            hashed = identity & 0xFFFFFFFF
            filling = self._slots[hashed & (SLOTS - 1)]
        else:
            hashed = 0
            filling = self._slots[SLOTS]
        if filling is None:
            filling = self._filling(hashed)
        if self._compressed:
            filling = self._of_topic(filling, topic)
        if (self._policies.federated or filling.geo) and filling.geo != self._policies.in_second_region(topic):
            self._ship(filling)  # what waits for a second region, and what does not, never share a batch
            filling.geo = not filling.geo
        builder = filling.builder
        if len(event) > self._batch_bytes and builder.count:  # together they might be too large
            self._ship(filling)
            builder = filling.builder
        builder.add(topic, hashed, event, identity)
        if claim is not None or filling.claims is not None:
            filling.claims = filling.claims or [None] * (builder.count - 1)
            filling.claims.append(claim)
        if filling.timer is None:
            loop = self._loop
            filling.timer = (
                loop.call_later(self._linger_s, self._ship, filling)
                if self._linger_s
                else loop.call_soon(self._ship, filling)
            )
        if builder.size_bytes >= self._batch_bytes or builder.count >= self._batch_events:
            return filling
        return None

    def _of_topic(self, filling: Filling, topic: str) -> Filling:
        found = filling.topics.get(topic)
        if found is None:
            if len(self._by_topic) >= OPEN_BATCHES:  # bounded memory: what has waited longest goes first
                self._forget_topics()
            found = filling.topics[topic] = Filling(filling.owner, filling.generation)
            self._by_topic.append(found)
        return found

    def _forget_topics(self) -> None:
        for filling in self._by_topic:
            self._ship(filling)
        self._by_topic.clear()
        for filling in self._fillings.values():
            filling.topics.clear()

    def _filling(self, hashed: int) -> Filling:
        if not hashed:
            filling = self._slots[SLOTS] = self._fillings.setdefault(None, Filling(None, self._generation))
            return filling
        try:
            owner = self._outbox.owner(hashed)
        except UnavailableError:
            return self._fillings.setdefault("", Filling("", self._generation))  # keyed, the owner not known yet
        filling = self._slots[hashed & (SLOTS - 1)] = self._fillings.setdefault(owner, Filling(owner, self._generation))
        return filling

    def _new_generation(self) -> None:
        """Keys may have other owners now: what was collected goes out first."""
        self._forget_topics()
        for filling in self._fillings.values():
            self._ship(filling)
        self._generation = self._turns.generation
        self._slots = [None] * (SLOTS + 1)
        self._fillings = {}

    def _ship(self, filling: Filling) -> None:
        if filling.timer is not None:
            filling.timer.cancel()
            filling.timer = None
        builder, claims = filling.builder, filling.claims
        if not builder.count:
            return
        filling.builder, filling.claims = BatchBuilder(), None
        deadline_ns = self._clock.monotonic_ns() + self._timeout_ns
        batch = builder.build(compressed=self._compressed)
        window = self._windows.of(geo=filling.geo)
        parcel = Parcel(window, window.next_sequence(), batch, claims, deadline_ns)
        parcel.geo = filling.geo
        window.add([parcel])
        known = filling.owner if filling.generation == self._turns.generation else None
        self._outbox.post(parcel, known or None)

    async def _drain(self) -> None:
        for filling in (*self._fillings.values(), *self._by_topic):
            self._ship(filling)
        await self._windows.empty()
