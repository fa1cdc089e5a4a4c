"""Duplicates of batches, recognised exactly within a window per producer (protocol rule 9).

A producer numbers its batches; an owner sees an ascending subset of the numbers, with repeats after time-outs. The
window remembers the last of them and where they were stored; what fell out of it can no longer be judged and is an
error, never an "ok". Part of a ledger's folded state: it is rebuilt from snapshot and records.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from fedbus.errors import SequenceError

MAX_ENTRIES = 131_072  # of all producers together: bounds the memory, and a snapshot to a few MiB
NO_FLOOR = -1


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Where the batch of a sequence was stored; ``ledger`` is a place in the state's table, ``number`` the record's."""

    sequence: int
    ledger: int
    first_offset: int
    count: int
    number: int


class ProducerWindow(msgspec.Struct, frozen=True, array_like=True):
    """One producer's part of a snapshot. ``floor``: the highest sequence that was forgotten (-1: none)."""

    producer: str
    floor: int
    entries: list[Entry]


class DedupState(msgspec.Struct, frozen=True, array_like=True):
    """All producers, the longest idle first. ``ledgers``: the names that entries refer to by place."""

    ledgers: list[str] = []
    windows: list[ProducerWindow] = []


class DedupWindow:
    """All producers of one owner.

    Beyond the bounds the longest idle producers keep their floor only (their repeats are then errors, not duplicates);
    floors are kept of ``producers`` too.
    """

    def __init__(self, per_producer: int, producers: int, max_entries: int = MAX_ENTRIES) -> None:
        self._per_producer = per_producer
        self._producers = producers
        self._max_entries = max_entries
        self._windows: OrderedDict[str, dict[int, Entry]] = OrderedDict()
        self._floors: OrderedDict[str, int] = OrderedDict()
        self._ledgers: list[str] = []
        self._places: dict[str, int] = {}
        self._total = 0

    def seen(self, producer: str, sequence: int) -> Entry | None:
        """The entry of that sequence, ``None`` if it is new; raises :class:`SequenceError` below the window."""
        entry = self._windows.get(producer, {}).get(sequence)
        floor = self._floors.get(producer, NO_FLOOR)
        if entry is None and sequence <= floor:
            raise SequenceError(
                f"sequence {sequence} of producer {producer!r} is below the dedup window (forgotten up to {floor}); "
                "whether this batch was stored can no longer be told: read it back, or publish it under a new producer"
            )
        return entry

    def ledger(self, entry: Entry) -> str:
        """The name of the ledger in which an entry's batch is."""
        return self._ledgers[entry.ledger]

    def remember(self, producer: str, sequence: int, ledger: str, first_offset: int, count: int, number: int) -> None:
        """Note that this sequence was stored."""
        entry = Entry(sequence, self._place(ledger), first_offset, count, number)
        window = self._windows.setdefault(producer, {})
        self._windows.move_to_end(producer)
        self._total += sequence not in window
        window[sequence] = entry
        if len(window) > self._per_producer:
            self._forget(producer, window, next(iter(window)))
        self._bound()

    def _place(self, ledger: str) -> int:
        place = self._places.get(ledger)
        if place is None:
            place = self._places[ledger] = len(self._ledgers)
            self._ledgers.append(ledger)
        return place

    def _forget(self, producer: str, window: dict[int, Entry], sequence: int) -> None:
        del window[sequence]
        self._total -= 1
        self._raise_floor(producer, sequence)

    def _raise_floor(self, producer: str, sequence: int) -> None:
        self._floors[producer] = max(sequence, self._floors.get(producer, NO_FLOOR))
        self._floors.move_to_end(producer)
        if len(self._floors) > self._producers:
            self._floors.popitem(last=False)

    def _bound(self) -> None:
        while len(self._windows) > self._producers or self._total > self._max_entries:
            idle, dropped = self._windows.popitem(last=False)
            self._total -= len(dropped)
            if dropped:
                self._raise_floor(idle, max(dropped))

    def forget_from(self, ledger: str, number: int) -> dict[str, int]:
        """Forget batches of ``ledger`` from record ``number`` on, never stored; returns producer → lowest of them."""
        place = self._place(ledger)
        lowest: dict[str, int] = {}
        for producer, window in self._windows.items():
            for sequence in [s for s, e in window.items() if e.ledger == place and e.number >= number]:
                del window[sequence]
                self._total -= 1
                lowest[producer] = min(sequence, lowest.get(producer, sequence))
        return lowest

    def snapshot(self) -> DedupState:
        """Its whole state."""
        idle = [ProducerWindow(name, floor, []) for name, floor in self._floors.items() if name not in self._windows]
        active = [
            ProducerWindow(name, self._floors.get(name, NO_FLOOR), list(window.values()))
            for name, window in self._windows.items()
        ]
        return DedupState(self._ledgers, idle + active)

    def restore(self, state: DedupState) -> None:
        """Merge a snapshot's state in; of two owners' windows the highest sequences stay."""
        for part in state.windows:
            if part.floor > NO_FLOOR:
                self._raise_floor(part.producer, part.floor)
            if not part.entries:
                continue
            window = self._windows.setdefault(part.producer, {})
            self._windows.move_to_end(part.producer)
            for entry in part.entries:
                place = self._place(state.ledgers[entry.ledger])
                self._total += entry.sequence not in window
                window[entry.sequence] = msgspec.structs.replace(entry, ledger=place)
            self._windows[part.producer] = window = dict(sorted(window.items()))
            while len(window) > self._per_producer:
                self._forget(part.producer, window, next(iter(window)))
        self._bound()
