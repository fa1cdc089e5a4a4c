"""A producer: encodes events, collects them into batches per owner and keeps what is unanswered within bounds.

``send`` is the hot path: one encode, one append, no task and no future per event. Batches leave when they are full or
after ``linger_ms``. What happens to a batch afterwards is the outbox's business.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from zlib import crc32

import msgspec

from fedbus.batch import BatchBuilder
from fedbus.client.outbox import Outbox
from fedbus.client.parcel import Parcel
from fedbus.client.receipt import Claim, Outcome, Receipt, Ticket
from fedbus.client.window import Window
from fedbus.clock import Clock
from fedbus.errors import ClosedError, FedbusError, InvalidEventError, TooLargeError, UnavailableError
from fedbus.event import PARTITION_KEY, Event, check_attributes, check_time, encode_data
from fedbus.keys import SLOTS, key_hash
from fedbus.limits import Limits
from fedbus.topic import check_topic

LINGER_MS = 3
BATCH_EVENTS = 1000
BATCH_BYTES = 512 * 1024
KNOWN_TOPICS = 16_384
JSON = "application/json"

_encode = msgspec.msgpack.Encoder().encode
_to_json = msgspec.json.Encoder().encode


class Filling:
    """A batch being filled for one owner (None: keyless, the owner is picked when it is full)."""

    __slots__ = ("builder", "claims", "generation", "owner", "timer")

    def __init__(self, owner: str | None, generation: int) -> None:
        self.owner = owner
        self.generation = generation
        self.builder = BatchBuilder()
        self.claims: list[Claim] | None = None
        self.timer: asyncio.Handle | None = None


class Producer:
    """Publishes through a bus; made by :meth:`Bus.producer`. Use it as an async context manager."""

    def __init__(
        self,
        outbox: Outbox,
        source: str,
        limits: Limits,
        clock: Clock,
        *,
        linger_ms: float = LINGER_MS,
        batch_events: int = BATCH_EVENTS,
        batch_bytes: int = BATCH_BYTES,
        timeout_ms: int = 30_000,
    ) -> None:
        self.name = secrets.token_hex(8)
        self.acknowledged = 0  # events that are durable
        self._outbox = outbox
        self._source = source
        self._limits = limits
        self._clock = clock
        self._now_ns = clock.now_ns
        self._loop = asyncio.get_running_loop()
        self._linger_s = linger_ms / 1000
        self._batch_events = max(1, min(batch_events, limits.batch_events))
        self._batch_bytes = max(1, min(batch_bytes, limits.batch_bytes // 2))
        self._timeout_ns = timeout_ms * 1_000_000
        self._window = Window(limits)
        self._prefix = f"{self.name}-"
        self._events = 0
        self._topics: set[str] = set()
        self._generation = -1
        self._slots: list[Filling | None] = []
        self._fillings: dict[str | None, Filling] = {}
        self._failure: FedbusError | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.flush()
            elif isinstance(error, Exception):
                await self._drain()
        finally:
            self._closed = True

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

        Raises at once what is wrong with the event, and what has failed for good since the last call (as ``flush`` does).
        """
        if self._failure is not None:
            self._raise_failure()
        event = self._event(topic, data, key, type, attributes, id, time, content_type)
        filling = self._add(topic, key, event)
        if filling is not None:
            self._ship(filling)
            await (asyncio.sleep(0) if self._window.has_room else self._window.room())

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
        if not self._window.has_room:
            await self._window.room()
        given = id or f"{self._prefix}{self._events + 1}"
        event = self._event(topic, data, key, type, attributes, given, time, content_type)
        ticket = Ticket(1, self._loop)
        if (full := self._add(topic, key, event, (ticket, 0, given))) is not None:
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
            if not self._window.has_room:
                await self._window.room()
            try:
                self._check(topic, event.payload, event.key, event.attributes)
                full = self._add(topic, event.key, event.encode(), (ticket, place, event.id))
            except FedbusError as error:
                ticket.settle(place, error)
            else:
                if full is not None:
                    self._ship(full)
        if events:
            await ticket.done
        return [outcome for outcome in ticket.outcomes if outcome is not None]

    async def flush(self) -> None:
        """Wait until everything sent before is settled; raises the first failure, with how many events failed."""
        await self._drain()
        if self._failure is not None:
            self._raise_failure()

    def next_sequence(self) -> int:
        """For the outbox: the next parcel's sequence."""
        return self._window.next_sequence()

    def split(self, parcel: Parcel, parts: Sequence[Parcel]) -> None:
        """For the outbox: these parcels go on instead of that one."""
        self._window.add(parts)
        self._window.remove(parcel)

    def settled(self, parcel: Parcel, error: FedbusError | None) -> None:
        """For the outbox: a parcel is durable or has failed."""
        self._window.remove(parcel)
        if error is None:
            self.acknowledged += parcel.batch.count
        elif self._failure is None and parcel.claims is None:
            self._failure = error

    def _event(
        self,
        topic: str,
        data: Any,
        key: str | None,
        type: str | None,
        attributes: Mapping[str, str | int | bool] | None,
        id: str | None,
        time: str | datetime | None,
        content_type: str | None,
    ) -> bytes:
        kind = data.__class__
        if kind is bytes:
            payload, natural = data, "application/octet-stream"
        elif kind is dict:
            try:
                payload, natural = _to_json(data), JSON
            except (TypeError, msgspec.MsgspecError) as error:
                raise InvalidEventError(f"data is not JSON: {error}; pass bytes instead") from None
        else:
            payload, natural = encode_data(data)  # type: ignore[assignment]
        if key is not None or attributes is not None or topic not in self._topics or len(payload or b"") > 65_536:
            self._check(topic, payload, key, attributes)
        self._events = number = self._events + 1
        moment = self._now_ns() if time is None else _moment(time)
        return _encode(
            (
                id or f"{self._prefix}{number}",
                self._source,
                type or topic,
                moment,
                content_type or natural,
                key,
                attributes,
                payload,
            )
        )

    def _check(
        self, topic: str, payload: bytes | None, key: str | None, attributes: Mapping[str, str | int | bool] | None
    ) -> None:
        if self._closed:
            raise ClosedError("this producer was closed; open another one with bus.producer()")
        limits = self._limits
        if topic not in self._topics:
            if len(self._topics) >= KNOWN_TOPICS:
                self._topics.clear()
            self._topics.add(check_topic(topic))
        if payload is not None and len(payload) > limits.event_bytes:
            raise TooLargeError(
                f"{topic}: data of {len(payload)} bytes is beyond the limit of {limits.event_bytes} (event_bytes); "
                "store it elsewhere and publish a reference"
            )
        if key is not None and len(key) * 4 > limits.key_bytes and len(key.encode()) > limits.key_bytes:
            raise TooLargeError(f"{topic}: a key of {len(key.encode())} bytes is beyond {limits.key_bytes} (key_bytes)")
        if attributes is not None:
            check_attributes(attributes)
            if PARTITION_KEY in attributes:
                raise InvalidEventError(f"{topic}: pass {PARTITION_KEY} as key=, not as an attribute")
            if len(_encode(attributes)) > limits.attributes_bytes:
                raise TooLargeError(f"{topic}: attributes beyond {limits.attributes_bytes} bytes (attributes_bytes)")

    def _add(self, topic: str, key: str | None, event: bytes, claim: Claim | None = None) -> Filling | None:
        """Put an event into its batch; returns the batch if it is full now."""
        if self._generation != self._outbox.generation:
            self._new_generation()
        if key is None:
            hashed = 0
            filling = self._slots[SLOTS]
        else:
            hashed = crc32(key.encode()) or 1  # as keys.key_hash, without the call
            filling = self._slots[hashed & (SLOTS - 1)]
        if filling is None:
            filling = self._filling(key)
        builder = filling.builder
        builder.add(topic, hashed, event)
        if claim is not None:
            if filling.claims is None:
                filling.claims = []
            filling.claims.append(claim)
        if filling.timer is None:
            loop = self._loop
            filling.timer = (
                loop.call_later(self._linger_s, self._ship, filling)
                if self._linger_s
                else loop.call_soon(self._ship, filling)
            )
        if builder.size_bytes >= self._batch_bytes or len(builder) >= self._batch_events:
            return filling
        return None

    def _filling(self, key: str | None) -> Filling:
        if key is None:
            filling = self._slots[SLOTS] = self._fillings.setdefault(None, Filling(None, self._generation))
            return filling
        hashed = key_hash(key)
        try:
            owner = self._outbox.owner(hashed)
        except UnavailableError:
            return self._fillings.setdefault("", Filling("", self._generation))  # keyed, the owner not known yet
        filling = self._slots[hashed & (SLOTS - 1)] = self._fillings.setdefault(owner, Filling(owner, self._generation))
        return filling

    def _new_generation(self) -> None:
        """Keys may have other owners now: what was collected goes out first."""
        for filling in self._fillings.values():
            self._ship(filling)
        self._generation = self._outbox.generation
        self._slots = [None] * (SLOTS + 1)
        self._fillings = {}

    def _ship(self, filling: Filling) -> None:
        if filling.timer is not None:
            filling.timer.cancel()
            filling.timer = None
        builder, claims = filling.builder, filling.claims
        if not len(builder):
            return
        filling.builder, filling.claims = BatchBuilder(), None
        deadline_ns = self._clock.monotonic_ns() + self._timeout_ns
        parcel = Parcel(self, self._window.next_sequence(), builder.build(), claims, deadline_ns)
        self._window.add([parcel])
        known = filling.owner if filling.generation == self._outbox.generation else None
        self._outbox.post(parcel, known or None)

    async def _drain(self) -> None:
        for filling in list(self._fillings.values()):
            self._ship(filling)
        await self._window.empty()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        assert failure is not None, "there is a failure to raise"
        raise failure


def _moment(time: str | datetime) -> str | None:
    if isinstance(time, datetime):
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).isoformat()
    return check_time(time)
