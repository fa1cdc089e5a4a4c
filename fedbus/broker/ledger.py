"""The ledgers of one instance as the core sees them: one being written, the closed ones, and the newest batches in memory.

Numbers records and offsets, asks the shell to write, holds answers back until the disk has confirmed, and keeps a bounded
tail of confirmed batches so that subscribers who keep up never cause a read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping

from fedbus.batch import Buffer
from fedbus.broker.effects import Effect, RollSegment, Write
from fedbus.broker.record import Kind, Record
from fedbus.broker.stored import Stored
from fedbus.limits import Limits


class Tail:
    """The newest confirmed batches of the open ledger, bounded in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._batches: list[Stored] = []
        self._first: list[int] = []
        self._dropped = 0  # leading places of both lists that are no longer there
        self.size_bytes = 0

    def add(self, stored: Stored) -> None:
        """Append the next batch; the oldest go when there is no room."""
        self._batches.append(stored)
        self._first.append(stored.first_offset)
        self.size_bytes += stored.size_bytes
        while self.size_bytes > self._max_bytes and len(self._batches) - self._dropped > 1:
            self.size_bytes -= self._batches[self._dropped].size_bytes
            self._dropped += 1
        if self._dropped > 1024 and self._dropped * 2 > len(self._batches):
            del self._batches[: self._dropped]
            del self._first[: self._dropped]
            self._dropped = 0

    def find(self, offset: int) -> Stored | None:
        """The batch that contains the offset, if it is still here."""
        at = bisect_right(self._first, offset, lo=self._dropped) - 1
        if at < self._dropped:
            return None
        stored = self._batches[at]
        return stored if offset < stored.next_offset else None


class Ledgers:
    """One instance's ledgers. ``snapshot`` gives the folded state with which every segment begins."""

    def __init__(self, current: str, closed: Mapping[str, int], limits: Limits, snapshot: Callable[[], bytes]) -> None:
        self.current = current
        self.closed = dict(closed)  # ledger → end offset
        self.confirmed_offset = 0
        self.generation = 0
        self.failed = ""
        self.pending_bytes = 0
        self._limits = limits
        self._snapshot = snapshot
        self._snapshot_due = True
        self._next_number = 0
        self._next_offset = 0
        self._confirmed_number = -1
        self._segment_bytes = 0
        self._pending: deque[Record] = deque()
        self._answers: dict[int, list[Effect]] = {}
        self._tail = Tail(limits.tail_cache_bytes)
        self.effects: list[Effect] = []

    def end(self, ledger: str) -> int:
        """One past the last confirmed offset of a ledger (0 for one that is not here)."""
        return self.confirmed_offset if ledger == self.current else self.closed.get(ledger, 0)

    def names(self) -> list[str]:
        """All ledgers, closed ones first, the open one last."""
        return [*self.closed, self.current]

    @property
    def full(self) -> bool:
        """Whether the bound on unconfirmed bytes is reached."""
        return self.pending_bytes >= self._limits.uncommitted_bytes

    def append(
        self,
        kind: Kind,
        now_ns: int,
        *,
        count: int = 0,
        meta: Buffer = b"",
        index: Buffer = b"",
        payload: Buffer = b"",
        then: Effect | None = None,
    ) -> Record:
        """Write a record; ``then`` is sent once it is confirmed. A due segment roll and snapshot go before it."""
        if self._segment_bytes >= self._limits.segment_bytes:
            self.effects.append(RollSegment())
            self._segment_bytes = 0
            self._snapshot_due = True
        if self._snapshot_due:
            self._snapshot_due = False
            self._write(Kind.SNAPSHOT, now_ns, payload=self._snapshot())
        record = self._write(kind, now_ns, count, meta, index, payload)
        if then is not None:
            self._answers.setdefault(record.number, []).append(then)
        return record

    def _write(
        self, kind: Kind, now_ns: int, count: int = 0, meta: Buffer = b"", index: Buffer = b"", payload: Buffer = b""
    ) -> Record:
        record = Record(
            kind, self._next_number, self._next_offset, count, now_ns // 1_000_000,
            confirmed=self._confirmed_number + 1, meta=meta, index=index, payload=payload,
        )  # fmt: skip
        self._next_number += 1
        self._next_offset += count
        self._segment_bytes += record.size_bytes
        self.pending_bytes += record.size_bytes
        self._pending.append(record)
        self.effects.append(Write(record, self.generation))
        return record

    def snapshot_now(self, now_ns: int) -> None:
        """Write the folded state at once (first record of an incarnation, after an adoption)."""
        self._snapshot_due = False
        self._write(Kind.SNAPSHOT, now_ns, payload=self._snapshot())

    def answer_when_confirmed(self, number: int, answer: Effect) -> None:
        """Send once record ``number`` is confirmed (at once if it is)."""
        if number <= self._confirmed_number:
            self.effects.append(answer)
        else:
            self._answers.setdefault(number, []).append(answer)

    def confirmed(self, number: int) -> list[Stored]:
        """The disk has everything up to ``number``: answers go out; returns the batches that became visible."""
        visible: list[Stored] = []
        while self._pending and self._pending[0].number <= number:
            record = self._pending.popleft()
            self._confirmed_number = record.number
            self.pending_bytes -= record.size_bytes
            self.effects.extend(self._answers.pop(record.number, ()))
            if record.kind is Kind.EVENTS:
                stored = Stored(self.current, record)
                self._tail.add(stored)
                self.confirmed_offset = record.next_offset
                visible.append(stored)
        return visible

    def void(self, generation: int) -> list[Effect]:
        """Nothing unconfirmed was stored (disk full): go back to the confirmed end; returns the answers not to be given."""
        if generation != self.generation:
            return []
        self.generation += 1
        lost = [answer for record in self._pending for answer in self._answers.pop(record.number, ())]
        self._segment_bytes -= self.pending_bytes
        self._pending.clear()
        self.pending_bytes = 0
        self._next_number = self._confirmed_number + 1
        self._next_offset = self.confirmed_offset
        self._snapshot_due = True
        return lost

    def next_number(self) -> int:
        """The number the next record will get (a snapshot that is due goes before it)."""
        return self._next_number

    def find(self, ledger: str, offset: int) -> Stored | None:
        """The batch with that offset if it is in memory."""
        return self._tail.find(offset) if ledger == self.current else None
