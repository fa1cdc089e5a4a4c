"""Batches that are stored here and do not count before a second region has them too (protocol rule 20).

They are durable in this region, links offer them to others, and nothing else shows them: neither groups nor live
subscriptions get them, nor is their producer answered. Part of the folded state; which region has what is left to
``broker/geo_targets.py``, and what follows from it to ``broker/geo_durability.py``.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from fedbus.batch import Batch
from fedbus.broker.record import SECOND_REGION, Record
from fedbus.broker.settled import Settled

END = 1 << 63


class GeoBatch(msgspec.Struct, frozen=True, array_like=True):
    """One of them; ``time_ms``: when it was stored (Unix time)."""

    ledger: str
    first_offset: int
    next_offset: int
    topics: list[str]
    time_ms: int


class GeoState(msgspec.Struct, frozen=True, array_like=True):
    """Its part of a snapshot. ``known_to``: per ledger up to where there are no others."""

    batches: list[GeoBatch] = []
    known_to: dict[str, int] = {}


class GeoBatches:
    """All of one instance, in every ledger it serves. ``events``: in them; ``changes`` grows when one is released."""

    def __init__(self) -> None:
        self.events = 0
        self.changes = 0
        self._of: dict[str, dict[int, GeoBatch]] = {}
        self._firsts: dict[str, list[int]] = {}  # per ledger, ascending
        self._used = False  # ever

    def __bool__(self) -> bool:
        return bool(self._of)

    def __iter__(self) -> Iterator[GeoBatch]:
        for batches in self._of.values():
            yield from batches.values()

    def ledgers(self) -> list[str]:
        """In which ledgers there are any."""
        return list(self._of)

    def in_ledger(self, ledger: str) -> list[GeoBatch]:
        """Those of one ledger, ascending."""
        batches = self._of.get(ledger, {})
        return [batches[first] for first in self._firsts.get(ledger, ())]

    def oldest_ms(self) -> int:
        """When the oldest was stored (0: there is none)."""
        return min((self._of[ledger][firsts[0]].time_ms for ledger, firsts in self._firsts.items()), default=0)

    def holding(self, ledger: str, offset: int) -> GeoBatch | None:
        """The one that holds this offset."""
        firsts = self._firsts.get(ledger)
        if not firsts or (at := bisect_right(firsts, offset) - 1) < 0:
            return None
        batch = self._of[ledger][firsts[at]]
        return batch if offset < batch.next_offset else None

    def until(self, ledger: str, offset: int) -> int:
        """One past the end of the one that holds this offset; 0: none does."""
        batch = self.holding(ledger, offset)
        return batch.next_offset if batch is not None else 0

    def stored(self, ledger: str, record: Record) -> None:
        """A batch was stored (or found on recovery): hide it if it asks for that."""
        if record.events_meta().flags & SECOND_REGION:
            topics = list(Batch.decode(record.index, b"").topics)
            self._add(GeoBatch(ledger, record.first_offset, record.next_offset, topics, record.time_ms))

    def _add(self, batch: GeoBatch) -> None:
        self._used = True
        batches = self._of.setdefault(batch.ledger, {})
        if batch.first_offset not in batches:
            insort(self._firsts.setdefault(batch.ledger, []), batch.first_offset)
            self.events += batch.next_offset - batch.first_offset
        batches[batch.first_offset] = batch

    def release(self, ledger: str, first_offset: int) -> None:
        """A second region has it: it counts from now on."""
        batch = self._of.get(ledger, {}).pop(first_offset, None)
        if batch is None:
            return
        self._firsts[ledger].remove(first_offset)
        self.events -= batch.next_offset - first_offset
        self.changes += 1
        if not self._of[ledger]:
            del self._of[ledger], self._firsts[ledger]

    def drop(self, ledger: str, start: int, end: int = END) -> None:
        """What is in this range counts no more: it was never stored, has expired, or cannot be read any more."""
        for batch in self.in_ledger(ledger):
            if start < batch.next_offset and batch.first_offset < end:
                self.release(ledger, batch.first_offset)

    def fold(self, released: Iterable[Settled]) -> None:
        """Recovery: the offsets of released batches, found in a record."""
        for part in released:
            for start, end in part.ranges:
                for batch in self.in_ledger(part.ledger):
                    if start <= batch.first_offset < end:
                        self.release(part.ledger, batch.first_offset)

    def state(self, ends: Mapping[str, int]) -> GeoState:
        """Its part of a snapshot; ``ends``: of all ledgers served here, as far as they are written."""
        return GeoState(list(self), dict(ends) if self._used else {})

    def restore(self, state: GeoState) -> None:
        """Merge a snapshot's part in; what it knows of and does not name was released."""
        self._used = self._used or bool(state.known_to)
        named = {(batch.ledger, batch.first_offset) for batch in state.batches}
        for ledger, known_to in state.known_to.items():
            for batch in self.in_ledger(ledger):
                if batch.first_offset < known_to and (ledger, batch.first_offset) not in named:
                    self.release(ledger, batch.first_offset)
        for batch in state.batches:
            self._add(batch)
