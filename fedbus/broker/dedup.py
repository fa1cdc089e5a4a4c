"""Duplicates of batches, recognised exactly within a window per producer (protocol rule 9).

A producer numbers its batches; an owner sees an ascending subset of the numbers, with repeats after time-outs. The window
remembers the last of them and where they were stored; what fell out of it can no longer be judged and is an error, never
an "ok". Part of a ledger's folded state: it is rebuilt from snapshot and records.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from fedbus.errors import SequenceError


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Where the batch of a sequence was stored; ``number`` is its record's while it is not yet durable."""

    sequence: int
    ledger: str
    first_offset: int
    count: int
    number: int


class ProducerWindow(msgspec.Struct, frozen=True, array_like=True):
    """One producer's part of a snapshot. ``floor``: the highest sequence that was forgotten."""

    producer: str
    floor: int
    entries: list[Entry]


class DedupWindow:
    """All producers of one owner; the longest idle producer is forgotten first when ``max_entries`` is exceeded."""

    def __init__(self, per_producer: int, producers: int, max_entries: int = 262_144) -> None:
        self._per_producer = per_producer
        self._producers = producers
        self._max_entries = max_entries
        self._windows: OrderedDict[str, dict[int, Entry]] = OrderedDict()
        self._floors: dict[str, int] = {}
        self._total = 0

    def seen(self, producer: str, sequence: int) -> Entry | None:
        """The stored batch of that sequence, or ``None`` if it is new; raises :class:`SequenceError` below the window."""
        entry = self._windows.get(producer, {}).get(sequence)
        floor = self._floors.get(producer, -1)
        if entry is None and sequence <= floor:
            raise SequenceError(
                f"sequence {sequence} of producer {producer!r} is below the dedup window (forgotten up to {floor}); "
                "whether this batch was stored can no longer be told: read it back, or publish it under a new producer"
            )
        return entry

    def remember(self, producer: str, entry: Entry) -> None:
        """Note that this sequence was stored."""
        window = self._windows.setdefault(producer, {})
        self._windows.move_to_end(producer)
        self._total += entry.sequence not in window
        window[entry.sequence] = entry
        if len(window) > self._per_producer:
            oldest = next(iter(window))
            del window[oldest]
            self._total -= 1
            self._floors[producer] = max(oldest, self._floors.get(producer, -1))
        while len(self._windows) > self._producers or self._total > self._max_entries:
            idle, dropped = self._windows.popitem(last=False)
            self._total -= len(dropped)
            self._floors.pop(idle, None)

    def forget_from(self, ledger: str, number: int) -> None:
        """Forget batches of ``ledger`` whose records from ``number`` on were never stored."""
        for window in self._windows.values():
            for sequence in [s for s, e in window.items() if e.ledger == ledger and e.number >= number]:
                del window[sequence]
                self._total -= 1

    def snapshot(self) -> list[ProducerWindow]:
        """Its whole state, longest idle producer first."""
        return [
            ProducerWindow(producer, self._floors.get(producer, -1), list(window.values()))
            for producer, window in self._windows.items()
        ]

    def restore(self, windows: list[ProducerWindow]) -> None:
        """Merge a snapshot's state in."""
        for window in windows:
            for entry in window.entries:
                self.remember(window.producer, entry)
            if window.floor >= 0:
                self._floors[window.producer] = max(window.floor, self._floors.get(window.producer, -1))
