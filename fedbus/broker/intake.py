"""Taking batches in: what is refused, what is a duplicate, and the answer once the batch is durable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedbus.batch import Batch, Buffer
from fedbus.broker import protocol as p
from fedbus.broker.dedup import DedupWindow
from fedbus.broker.effects import Effect, Send
from fedbus.broker.ledger import Ledgers
from fedbus.broker.record import EventsMeta, Kind, Record, encode_body
from fedbus.errors import (
    DrainingError,
    FedbusError,
    InvalidTopicError,
    OverloadedError,
    StorageError,
    TooLargeError,
    WrongOwnerError,
)
from fedbus.keys import NO_OWNER, slot_of
from fedbus.limits import Limits
from fedbus.routing.table import RoutingTable
from fedbus.topic import RESERVED_PREFIX

RETRY_MS = 50
HOLD_NS = 2_000_000_000


class Intake:
    """One instance's publish path. ``region`` and ``instance`` are its own names in the routing table."""

    def __init__(self, region: str, instance: str, ledgers: Ledgers, limits: Limits) -> None:
        self._region = region
        self._instance = instance
        self._ledgers = ledgers
        self._limits = limits
        self._known_topics: set[str] = set()
        self._table: RoutingTable | None = None
        self._slot_owners: list[str | None] = []
        self._held: dict[str, tuple[int, int]] = {}  # producer → (sequence it has to send again first, until when)
        self.dedup = DedupWindow(limits.dedup_window_batches, limits.dedup_producers)
        self.draining = False
        self.events_in = 0
        self.bytes_in = 0
        self.batches_in = 0
        self.duplicates = 0

    def adopt_table(self, table: RoutingTable) -> None:
        """From now on slots belong to whom this table says."""
        self._table = table
        route = table.region(self._region)
        names = [instance.instance for instance in route.instances] if route is not None else []
        places = route.owner_places() if route is not None else ()
        self._slot_owners = [names[place] if place != NO_OWNER else None for place in places]

    def publish(self, session: bytes, request: p.Publish, frames: Sequence[Buffer], now_ns: int) -> None:
        """Store a batch; raises a typed error if nothing of it was stored."""
        if request.producer and self._is_duplicate(session, request):
            return
        index, payload = frames[1], frames[2]
        size_bytes = len(index) + len(payload)
        batch = self._checked(request, index, payload, now_ns)
        meta = encode_body(EventsMeta(request.producer, request.sequence))
        record = self._ledgers.append(Kind.EVENTS, now_ns, count=batch.count, meta=meta, index=index, payload=payload)
        self._remember(self._ledgers.current, record, request.producer, request.sequence)
        self.events_in += batch.count
        self.bytes_in += size_bytes
        self.batches_in += 1
        published = p.Published(request.request, self._ledgers.current, record.first_offset, batch.count)
        self._ledgers.answer_when_confirmed(record.number, Send(session, published))

    def _is_duplicate(self, session: bytes, request: p.Publish) -> bool:
        """Whether the batch was stored before; then it is answered (when that is durable)."""
        entry = self.dedup.seen(request.producer, request.sequence)
        if entry is None:
            return False
        self.duplicates += 1
        ledger = self.dedup.ledger(entry)
        answer = p.Published(request.request, ledger, entry.first_offset, entry.count, duplicate=True)
        pending = entry.number if ledger == self._ledgers.current else -1
        self._ledgers.answer_when_confirmed(pending, Send(session, answer))
        return True

    def _checked(self, request: p.Publish, index: Buffer, payload: Buffer, now_ns: int) -> Batch:
        size_bytes = len(index) + len(payload)
        if size_bytes > self._limits.batch_bytes:
            raise TooLargeError(
                f"a batch of {size_bytes} bytes; the limit is {self._limits.batch_bytes}: send smaller batches"
            )
        batch = Batch.checked(index, payload, self._known_topics)
        self._check_batch(batch, request)
        ordered = batch.keyed and bool(request.producer)
        try:
            self._check_state()
            if ordered:
                self._check_turn(request, now_ns)
        except FedbusError as refusal:
            if ordered and refusal.retryable:
                self._hold(request.producer, request.sequence, now_ns)
            raise
        return batch

    def _check_turn(self, request: p.Publish, now_ns: int) -> None:
        sequence, until_ns = self._held.get(request.producer, (request.sequence, 0))
        if request.sequence > sequence and now_ns < until_ns:
            raise OverloadedError(
                f"sequence {sequence} of this producer was refused and comes first", retry_after_ms=RETRY_MS
            )
        self._held.pop(request.producer, None)

    def _hold(self, producer: str, sequence: int, now_ns: int) -> None:
        """Order per key: what this producer sent behind a refused batch is refused too until that has come again."""
        held, until_ns = self._held.get(producer, (sequence, 0))
        if until_ns <= now_ns:
            held, until_ns = sequence, now_ns + HOLD_NS
        self._held[producer] = (min(held, sequence), until_ns)
        if len(self._held) > self._limits.sessions:
            self._held = {name: hold for name, hold in self._held.items() if hold[1] > now_ns}

    def _check_state(self) -> None:
        if self._ledgers.failed:
            raise StorageError(f"instance {self._instance} stores nothing any more: {self._ledgers.failed}")
        if self.draining:
            raise DrainingError(f"instance {self._instance} is being scaled in")
        if self._ledgers.full:
            detail = f"instance {self._instance} holds {self._ledgers.pending_bytes} bytes that are not yet on disk"
            raise OverloadedError(detail, retry_after_ms=RETRY_MS)

    def _check_batch(self, batch: Batch, request: p.Publish) -> None:
        if batch.count > self._limits.batch_events or len(request.producer) > self._limits.name_bytes:
            raise TooLargeError(
                f"a batch of {batch.count} events by {request.producer[:20]!r}; the limits are "
                f"{self._limits.batch_events} events and {self._limits.name_bytes} bytes for the producer's name"
            )
        most = self._limits.event_bytes + self._limits.attributes_bytes
        if len(batch.payload) > most:
            ends = batch.ends
            largest = max(end - start for start, end in zip([0, *ends], ends, strict=False))
            if largest > most:
                raise TooLargeError(f"an event of {largest} bytes; the limit is {self._limits.event_bytes}")
        for topic in batch.topics:
            if topic.startswith(RESERVED_PREFIX):
                raise InvalidTopicError(f"{topic!r}: topics under {RESERVED_PREFIX} are reserved for the bus itself")
        if batch.keyed and self._slot_owners and (self._table is None or request.table_version != self._table.version):
            owners = {self._slot_owners[slot_of(key)] for key in set(batch.keys) if key}
            foreign = owners - {self._instance, None} - set(request.unreachable)
            if foreign:
                raise WrongOwnerError(
                    f"keys of this batch belong to {', '.join(sorted(str(owner) for owner in foreign))} "
                    f"in routing table {self._table.version if self._table else 0}, not to {self._instance}"
                )

    def _remember(self, ledger: str, record: Record, producer: str, sequence: int) -> None:
        if producer:
            self.dedup.remember(producer, sequence, ledger, record.first_offset, record.count, record.number)

    def fold(self, ledger: str, record: Record) -> None:
        """Recovery: a batch found in a ledger."""
        meta = record.events_meta()
        self._remember(ledger, record, meta.producer, meta.sequence)

    def void(self, lost: Iterable[Effect], detail: str, now_ns: int) -> list[Effect]:
        """What was not stored after all (disk full): the answers to give instead."""
        forgotten = self.dedup.forget_from(self._ledgers.current, self._ledgers.next_number())
        for producer, sequence in forgotten.items():
            self._hold(producer, sequence, now_ns)
        refusals: list[Effect] = []
        for effect in lost:
            request = getattr(effect.message, "request", 0) if isinstance(effect, Send) else 0
            if isinstance(effect, Send) and request:
                refusal = p.Refused(request, StorageError.code, detail, StorageError.retryable, retry_after_ms=1000)
                refusals.append(Send(effect.session, refusal))
        return refusals
