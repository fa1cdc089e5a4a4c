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
from fedbus.broker.stored import Stored
from fedbus.errors import StorageError
from fedbus.limits import Limits
from fedbus.position import LedgerId

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


class Ledgers:
    """One instance's ledgers. ``snapshot`` gives the folded state with which every segment begins."""

    def __init__(self, current: str, closed: Mapping[str, int], limits: Limits) -> None:
        self.current = current
        self.snapshot: Callable[[], bytes] = bytes
        self.closed = dict(closed)  # ledger → end offset
        self.confirmed_offset = 0
        self.generation = 0
        self.failed = ""
        self.pending_bytes = 0
        self._limits = limits
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

    def adopt(self, closed: Mapping[str, int]) -> None:
        """Serve these closed ledgers too."""
        self.closed.update(closed)

    def tails(self) -> dict[str, int]:
        """Where ``latest`` is: for each instance's newest ledger here (older ones are finished) its confirmed end."""
        newest: dict[tuple[str, str], LedgerId] = {}
        for name in self.names():
            ledger = LedgerId.parse(name)
            known = newest.get((ledger.region, ledger.instance))
            if known is None or known.epoch < ledger.epoch:
                newest[ledger.region, ledger.instance] = ledger
        return {str(ledger): self.end(str(ledger)) for ledger in newest.values()}

    @property
    def full(self) -> bool:
        """Whether the bound on unconfirmed bytes is reached."""
        return self.pending_bytes >= self._limits.uncommitted_bytes

    def append(
        self, kind: Kind, now_ns: int, *, count: int = 0, meta: Buffer = b"", index: Buffer = b"", payload: Buffer = b""
    ) -> Record:
        """Write a record; a due segment roll and snapshot go before it.

        The snapshot holds what the core knows at this moment: note what the record says only after this call. Raises
        :class:`StorageError` once the ledger has failed.
        """
        if self.failed:
            raise StorageError(f"ledger {self.current} takes no writes any more: {self.failed}")
        if self._segment_bytes >= self._limits.segment_bytes:
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
        if not self.failed:
            self._snapshot_due = False
            self._write(Kind.SNAPSHOT, now_ns, payload=self.snapshot())

    def is_confirmed(self, number: int) -> bool:
        """Whether record ``number`` of the open ledger is on disk."""
        return number <= self._confirmed_number

    def answer_when_confirmed(self, number: int, answer: Effect) -> None:
        """Send once record ``number`` is confirmed (at once if it is)."""
        if self.is_confirmed(number):
            self.effects.append(answer)
        else:
            self._answers.setdefault(number, []).append(answer)

    def confirmed(self, number: int) -> None:
        """The disk has everything up to ``number``: answers go out, batches become visible."""
        while self._pending and self._pending[0].number <= number:
            record = self._pending.popleft()
            self._confirmed_number = record.number
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
