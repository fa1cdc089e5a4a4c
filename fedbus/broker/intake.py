"""Taking batches in: what is refused, what is a duplicate, and the answer once the batch is durable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedbus.batch import Batch, Buffer
from fedbus.broker import protocol as p
from fedbus.broker.dedup import DedupWindows, Entry
from fedbus.broker.effects import Effect, Send
from fedbus.broker.geo_durability import GeoDurability
from fedbus.broker.judge import NO_RECORD, Judge
from fedbus.broker.ledger import Ledgers, check_accepting
from fedbus.broker.policies import Policies
from fedbus.broker.publish_order import ALL_SLOTS, RETRY_MS, PublishOrder, slots_of
from fedbus.broker.record import SECOND_REGION, WITHHELD, EventsMeta, Kind, Record, encode_body
from fedbus.broker.seen_ids import SeenIds
from fedbus.broker.slot_owners import SlotOwners
from fedbus.errors import (
    DrainingError,
    FedbusError,
    InvalidTopicError,
    OverloadedError,
    StorageError,
    TooLargeError,
    UnavailableError,
)
from fedbus.limits import Limits
from fedbus.topic import RESERVED_PREFIX

MILLISECOND = 1_000_000


class Intake:
    """One instance's publish path. ``region`` and ``instance`` are its own names in the routing table."""

    def __init__(
        self, region: str, instance: str, ledgers: Ledgers, limits: Limits, policies: Policies | None = None
    ) -> None:
        self._region = region
        self._instance = instance
        self._ledgers = ledgers
        self._limits = limits
        self._policies = policies or Policies()
        self._known_topics: set[str] = set()
        self.slot_owners = SlotOwners(region, instance)
        self._order = PublishOrder(limits.sessions)
        writer = instance if "/" in instance else f"{region}/{instance}"
        self.dedup = DedupWindows(writer, limits.dedup_window_batches, limits.dedup_producers)
        self.judge = Judge(writer, ledgers, self.dedup)
        self.geo = GeoDurability(region, ledgers, limits, self._policies)
        self.seen_ids = SeenIds(self._policies.dedup_window_ms, limits.dedup_events)
        self.draining = False
        self.managed = False  # a manager says which topic policies there are
        self.events_in = 0
        self.bytes_in = 0
        self.batches_in = 0
        self.duplicates = 0

    def known_topics(self) -> set[str]:
        """Topics that events came for lately, a bounded number."""
        return set(self._known_topics)

    def publish(self, session: bytes, request: p.Publish, frames: Sequence[Buffer], now_ns: int) -> None:
        """Store a batch; raises a typed error if nothing of it was stored."""
        if request.producer and self._is_duplicate(session, request, frames):
            return
        batch = self._checked(request, frames[1], frames[2], now_ns)
        copies: list[p.FirstCopy] = []
        twice: list[tuple[int, int]] = []
        if batch.index.ids:
            copies, twice = self.seen_ids.first_copies(batch, now_ns // MILLISECOND)
        if not copies and not twice:
            record = self._store(request, batch, now_ns)
            self._answer(session, request, record.number, record.first_offset, batch.count)
            return
        self.seen_ids.dropped += len(copies) + len(twice)
        gone = {copy.place for copy in copies} | {place for place, _ in twice}
        kept = [place for place in range(batch.count) if place not in gone]
        number, first_offset = self._ledgers.next_number() - 1, 0
        if kept:
            record = self._store(request, batch.select(kept), now_ns)
            number, first_offset = record.number, record.first_offset
        ranks = {place: first_offset + rank for rank, place in enumerate(kept)}
        copies += [p.FirstCopy(place, self._ledgers.current, ranks[first]) for place, first in twice]
        self._answer(session, request, number, first_offset, len(kept), sorted(copies, key=lambda each: each.place))

    def _store(self, request: p.Publish, batch: Batch, now_ns: int) -> Record:
        uncertain = not all(self.judge.certain(tried.ledger) for tried in request.tried)
        flags = (WITHHELD if request.idempotent else p.POSSIBLE_DUPLICATE) if uncertain else 0
        flags |= SECOND_REGION if self.geo.concerns(batch.topics) else 0
        meta = EventsMeta(request.producer, request.sequence, None, request.attempt, request.tried, flags)
        record = self._ledgers.append(
            Kind.EVENTS, now_ns, count=batch.count, meta=encode_body(meta), index=batch.index_bytes,
            payload=batch.payload,
        )  # fmt: skip
        self._remember(self._ledgers.current, record, meta, batch, request.order)
        self.events_in += batch.count
        self.bytes_in += len(batch.index_bytes) + len(batch.payload)
        self.batches_in += 1
        return record

    def _answer(
        self, session: bytes, request: p.Publish, number: int, first_offset: int, count: int,
        first_copies: list[p.FirstCopy] = [],  # noqa: B006 - never changed
    ) -> None:  # fmt: skip
        published = p.Published(request.request, self._ledgers.current, first_offset, count, first_copies=first_copies)
        own = [(self._ledgers.current, first_offset)] if count else []
        self._send(session, request, published, number, own)

    def _send(
        self, session: bytes, request: p.Publish, published: p.Published, number: int, own: list[tuple[str, int]]
    ) -> None:
        """Once all of it is durable, in a second region too where the topic asks for that."""
        if not self._ledgers.geo:
            self._ledgers.answer_when_confirmed(number, Send(session, published))
            return
        places = own + [(copy.ledger, copy.offset) for copy in published.first_copies]
        batch = (request.producer, request.sequence if request.producer else request.request)
        self.geo.answer(Send(session, published), number, batch, places)

    def _is_duplicate(self, session: bytes, request: p.Publish, frames: Sequence[Buffer]) -> bool:
        """Whether the batch was stored before; then it is answered (when that is durable)."""
        entry, as_sequence = self.dedup.seen(request.producer, request.sequence), -1
        if entry is None:
            self.dedup.own.check_not_rejected(request.producer, request.sequence, request.attempt)
            for tried in request.tried:
                if entry is None and self.judge.serves(tried.ledger):
                    entry = self.dedup.of(tried.ledger).seen(request.producer, tried.sequence)
                    as_sequence = tried.sequence if tried.sequence != request.sequence else -1
        if entry is None:
            return False
        self.duplicates += 1
        ledger = self.dedup.ledger(entry)
        copies = self._first_copies(entry, Batch.checked(frames[1], frames[2], self._known_topics))
        answer = p.Published(
            request.request, ledger, entry.first_offset, entry.count, duplicate=True,
            first_copies=copies if as_sequence < 0 else [], as_sequence=as_sequence,
        )  # fmt: skip
        pending = entry.number if ledger == self._ledgers.current else -1
        self._send(session, request, answer, pending, [(ledger, entry.first_offset)])
        return True

    def _first_copies(self, entry: Entry, batch: Batch) -> list[p.FirstCopy]:
        """Of a batch that was stored in part, because of events seen before it: those, as far as still known."""
        copies: list[p.FirstCopy] = []
        if batch.count == entry.count or not batch.index.ids:
            return copies
        expected = entry.first_offset
        for place, (topic, hashed) in enumerate(zip(batch.topic_of, batch.ids, strict=True)):
            found = self.seen_ids.find(batch.topics[topic], hashed)
            if found is None or found == (self.dedup.ledger(entry), expected):
                expected += 1
            else:
                copies.append(p.FirstCopy(place, *found))
        return copies

    def _checked(self, request: p.Publish, index: Buffer, payload: Buffer, now_ns: int) -> Batch:
        size_bytes = len(index) + len(payload)
        if len(request.producer) > self._limits.name_bytes:
            raise TooLargeError(
                f"a producer's name of {len(request.producer)} characters, {request.producer[:20]!r}; the limit is "
                f"{self._limits.name_bytes}"
            )
        if size_bytes > self._limits.batch_bytes:
            raise TooLargeError(
                f"a batch of {size_bytes} bytes; the limit is {self._limits.batch_bytes}: send smaller batches"
            )
        batch = Batch.checked(index, payload, self._known_topics)
        self._check_batch(batch)
        foreign = self.slot_owners.foreign(batch, request)
        ordered = batch.keyed and bool(request.producer)
        order = request.order or request.sequence
        try:
            self.slot_owners.check(batch, request, foreign)
            self._check_state()
            self.geo.check(batch, now_ns)
            if ordered:
                self._order.check(request.producer, order, batch.keys, now_ns)
        except FedbusError as refusal:
            if ordered and refusal.retryable:  # its foreign keys go elsewhere
                self._order.hold(request.producer, order, slots_of(set(batch.keys) - foreign.keys()), now_ns)
            raise
        return batch

    def _check_state(self) -> None:
        if self._ledgers.failed:
            raise StorageError(f"instance {self._instance} stores nothing any more: {self._ledgers.failed}")
        if self.draining:
            raise DrainingError(f"instance {self._instance} is being scaled in")
        check_accepting(self._ledgers)
        if self.managed and not self._policies.version:  # when an event counts is not known before
            raise UnavailableError("the topic policies are not known here yet", retry_after_ms=RETRY_MS)
        if self._ledgers.full:
            detail = f"instance {self._instance} holds {self._ledgers.pending_bytes} bytes that are not yet on disk"
            raise OverloadedError(detail, retry_after_ms=RETRY_MS)

    def _check_batch(self, batch: Batch) -> None:
        if batch.count > self._limits.batch_events:
            raise TooLargeError(f"a batch of {batch.count} events; the limit is {self._limits.batch_events}")
        most = self._limits.event_bytes + self._limits.attributes_bytes
        if batch.index.codec and batch.plain_bytes > self._limits.batch_bytes:
            raise TooLargeError(
                f"a batch of {batch.plain_bytes} bytes when decompressed; the limit is {self._limits.batch_bytes}"
            )
        if batch.plain_bytes > most:
            ends = batch.ends
            largest = max(end - start for start, end in zip([0, *ends], ends, strict=False))
            if largest > most:
                raise TooLargeError(f"an event of {largest} bytes; the limit is {self._limits.event_bytes}")
        for topic in batch.topics:
            if topic.startswith(RESERVED_PREFIX):
                raise InvalidTopicError(f"{topic!r}: topics under {RESERVED_PREFIX} are reserved for the bus itself")
            if self._policies.pinned:
                self._policies.check_stored_in(topic, self._region)
            if not self._policies.auto_create:
                self._policies.check_exists(topic)

    def _remember(
        self, ledger: str, record: Record, meta: EventsMeta, batch: Batch | None = None, order: int = 0
    ) -> None:
        if meta.producer:
            first, count, number = record.first_offset, record.count, record.number
            window = self.dedup.of(ledger)
            window.remember(meta.producer, meta.sequence, ledger, first, count, number, meta.attempt, order)
            if meta.tried:
                self.judge.implied(meta, record.number if batch is not None else NO_RECORD)
                self._ledgers.withheld.stored(ledger, record)
        if meta.flags & SECOND_REGION:
            self._ledgers.geo.stored(ledger, record)
        if batch is None or batch.index.ids:
            self.seen_ids.stored(ledger, record, batch)

    def fold(self, ledger: str, record: Record) -> None:
        """Recovery: a batch found in a ledger."""
        self._remember(ledger, record, record.events_meta())

    def rolled(self) -> None:
        """The open ledger was closed: record numbers begin anew."""
        self.dedup.own.rolled()

    def void(self, lost: Iterable[Effect], detail: str, now_ns: int) -> list[Effect]:
        """What was not stored after all (disk full): the answers to give instead."""
        current, confirmed = self._ledgers.current, self._ledgers.confirmed_offset
        lost = [*lost, *self.geo.void()]
        forgotten = self.dedup.own.forget_from(current, self._ledgers.next_number())
        self._ledgers.withheld.forget_from(current, confirmed)
        self.seen_ids.forget_from(current, confirmed)
        for producer, order in forgotten:
            self._order.hold(producer, order, ALL_SLOTS, now_ns)
        refusals: list[Effect] = []
        for effect in lost:
            request = getattr(effect.message, "request", 0) if isinstance(effect, Send) else 0
            if isinstance(effect, Send) and request:
                refusal = p.Refused(request, StorageError.code, detail, StorageError.retryable, retry_after_ms=1000)
                refusals.append(Send(effect.session, refusal))
        return refusals
