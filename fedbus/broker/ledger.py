"""The ledgers of one instance as the core sees them: one being written, closed ones, the newest batches in memory.

Numbers records and offsets, asks the shell to write, holds answers back until the disk has confirmed, and keeps a
bounded tail of confirmed batches so that subscribers who keep up never cause a read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping

from fedbus.batch import Buffer
from fedbus.broker.effects import Effect, RollSegment, Write
from fedbus.broker.record import Kind, Record
from fedbus.broker.served import ServedLedgers
from fedbus.broker.stored import Stored
from fedbus.errors import FedbusError, StorageError, UnavailableError
from fedbus.limits import Limits

NO_LEDGER_MS = 200  # when to ask again
REFUSAL_MS = 500
_COMPACT_FROM = 1024  # dropped batches before the tail's lists are cut


class Tail:
    """The newest confirmed batches of the open ledger, bounded in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._batches: list[Stored | None] = []
        self._first: list[int] = []
        self._dropped = 0  # leading places of both lists that are no longer there
        self.size_bytes = 0

    def add(self, stored: Stored) -> None:
        """Append the next batch; the oldest go when there is no room."""
        self._batches.append(stored)
        self._first.append(stored.first_offset)
        self.size_bytes += stored.size_bytes
        while self.size_bytes > self._max_bytes and len(self._batches) - self._dropped > 1:
            oldest = self._batches[self._dropped]
            assert oldest is not None, "what was dropped is counted"
            self.size_bytes -= oldest.size_bytes
            self._batches[self._dropped] = None
            self._dropped += 1
        if self._dropped > _COMPACT_FROM and self._dropped * 2 > len(self._batches):
            del self._batches[: self._dropped]
            del self._first[: self._dropped]
            self._dropped = 0

    def find(self, offset: int) -> Stored | None:
        """The batch that contains the offset, if it is still here."""
        at = bisect_right(self._first, offset, lo=self._dropped) - 1
        if at < self._dropped:
            return None
        stored = self._batches[at]
        return stored if stored is not None and offset < stored.next_offset else None


class Ledgers(ServedLedgers):
    """One instance's ledgers. ``snapshot`` gives the folded state with which every segment begins."""

    def __init__(self, current: str, closed: Mapping[str, int], limits: Limits) -> None:
        super().__init__(current, closed)
        self.snapshot: Callable[[], bytes] = bytes
        self.pinned: Callable[[str], bool] = lambda _topic: False  # whether a topic is stored in some regions alone
        self.generation = 0
        self.failed = ""
        self.pausing = False  # no new batches: the next ledger is about to begin
        self.holding = False  # writes are held back: the files are not there yet, or the disk is full
        self.pending: deque[Record] = deque()  # written and not confirmed
        self.pending_bytes = 0
        self.size_bytes = 0
        self.refusal: tuple[type[FedbusError], str] | None = None  # why a batch would not be acknowledged soon
        self._limits = limits
        self._snapshot_due = True
        self._next_number = 0
        self._next_offset = 0
        self.confirmed_number = -1  # the newest confirmed record of the open ledger
        self._segment_bytes = 0
        self._answers: dict[int, list[Effect]] = {}
        self._tail = Tail(limits.tail_cache_bytes)
        self.effects: list[Effect] = []

    @property
    def full(self) -> bool:
        """Whether nothing more should come now: the bound on unconfirmed bytes is reached, or a ledger is ending."""
        return self.pausing or self.pending_bytes >= self._limits.uncommitted_bytes

    @property
    def writable(self) -> bool:
        """Whether :meth:`append` takes records at all."""
        return bool(self.current) and not self.failed

    def begin(self, ledger: str) -> None:
        """Write this one from now on, from record 0; everything in the one before is confirmed."""
        assert not self.pending, "a ledger ends when all of it is confirmed"
        self.end_current()
        self.current = ledger
        self._next_number = self._next_offset = self.confirmed_offset = 0
        self.confirmed_number = -1
        self._segment_bytes = self.size_bytes = 0
        self._snapshot_due = True
        self._tail = Tail(self._limits.tail_cache_bytes)

    def release(self, number: int) -> None:
        """Write (again) what is pending from record ``number`` on, and hold nothing back any more."""
        self.holding = False
        self.effects.extend(Write(record, self.generation) for record in self.pending if record.number >= number)

    def append(
        self, kind: Kind, now_ns: int, *, count: int = 0, meta: Buffer = b"", index: Buffer = b"", payload: Buffer = b""
    ) -> Record:
        """Write a record; a due segment roll and snapshot go before it.

        The snapshot holds what the core knows at this moment: note what the record says only after this call. Raises
        :class:`StorageError` once the ledger has failed, :class:`UnavailableError` while none is open.
        """
        if self.failed:
            raise StorageError(f"ledger {self.current} takes no writes any more: {self.failed}")
        if not self.current:
            raise UnavailableError("this instance has no ledger to write yet", retry_after_ms=NO_LEDGER_MS)
        if self._segment_bytes >= self._limits.segment_bytes and not self.holding:
            self.effects.append(RollSegment())
            self._segment_bytes = 0
            self._snapshot_due = True
        if self._snapshot_due:
            self.snapshot_now(now_ns)
        return self._write(kind, now_ns, count, meta, index, payload)

    def _write(
        self, kind: Kind, now_ns: int, count: int = 0, meta: Buffer = b"", index: Buffer = b"", payload: Buffer = b""
    ) -> Record:
        record = Record(
            kind, self._next_number, self._next_offset, count, now_ns // 1_000_000,
            confirmed=self.confirmed_number + 1, meta=meta, index=index, payload=payload,
        )  # fmt: skip
        self._next_number += 1
        self._next_offset += count
        size_bytes = record.size_bytes
        self._segment_bytes += size_bytes
        self.size_bytes += size_bytes
        self.pending_bytes += size_bytes
        self.pending.append(record)
        if not self.holding:
            self.effects.append(Write(record, self.generation))
        return record

    def snapshot_now(self, now_ns: int) -> None:
        """Write the folded state at once (first record of an incarnation, after an adoption)."""
        if self.writable:
            self._snapshot_due = False
            self._write(Kind.SNAPSHOT, now_ns, payload=self.snapshot())

    def is_confirmed(self, number: int) -> bool:
        """Whether record ``number`` of the open ledger is on disk."""
        return number <= self.confirmed_number

    def answer_when_confirmed(self, number: int, answer: Effect) -> None:
        """Send once record ``number`` is confirmed (at once if it is)."""
        if self.is_confirmed(number):
            self.effects.append(answer)
        else:
            self._answers.setdefault(number, []).append(answer)

    def confirmed(self, number: int) -> None:
        """Every member has everything up to ``number``: answers go out, batches become visible."""
        while self.pending and self.pending[0].number <= number:
            record = self.pending.popleft()
            self.confirmed_number = record.number
            self.pending_bytes -= record.size_bytes
            self.effects.extend(self._answers.pop(record.number, ()))
            if record.kind is Kind.EVENTS:
                self._tail.add(Stored(self.current, record))
                self.confirmed_offset = record.next_offset

    def void(self) -> list[Effect]:
        """Nothing unconfirmed was stored: go back to the confirmed end; returns the answers not to be given."""
        self.generation += 1
        lost = [answer for answers in self._answers.values() for answer in answers]
        self._answers.clear()
        self._segment_bytes = max(0, self._segment_bytes - self.pending_bytes)
        self.size_bytes -= self.pending_bytes
        self.pending.clear()
        self.pending_bytes = 0
        self._next_number = self.confirmed_number + 1
        self._next_offset = self.confirmed_offset
        self._snapshot_due = True
        return lost

    def next_number(self) -> int:
        """The number the next record will get (a snapshot that is due goes before it)."""
        return self._next_number

    def next_offset(self) -> int:
        """The offset the next event will get."""
        return self._next_offset

    def find(self, ledger: str, offset: int) -> Stored | None:
        """The batch with that offset if it is in memory."""
        return self._tail.find(offset) if ledger == self.current else None


def check_accepting(ledgers: Ledgers) -> None:
    """Raises a retryable error if a batch would not be acknowledged soon."""
    if not ledgers.current:
        raise UnavailableError("this instance has no ledger to write yet", retry_after_ms=NO_LEDGER_MS)
    if ledgers.refusal is not None:
        kind, detail = ledgers.refusal
        raise kind(detail, retry_after_ms=REFUSAL_MS)
