"""Duplicates of batches, recognised exactly within a window per producer (protocol rule 9).

A producer numbers its batches; an owner sees an ascending subset of the numbers, with repeats after time-outs. The
window remembers the last of them and where they were stored, and which tries it has promised never to store (rule 10);
what fell out of it can no longer be judged and is an error, never an "ok". Part of a ledger's folded state: it is
rebuilt from snapshot and records.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from fedbus.errors import RejectedTryError, SequenceError
from fedbus.position import LedgerId

MAX_ENTRIES = 131_072  # of all producers together: bounds the memory, and a snapshot to a few MiB
MAX_WRITERS = 32  # taken over, whose windows are kept; of those before them only that they were there
NO_FLOOR = -1
UNRECORDED = -2  # the number of a rejection whose record was lost with a full disk


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Where the batch of a sequence was stored; ``ledger`` is a place in the state's table, ``number`` the record's."""

    sequence: int
    ledger: int
    first_offset: int
    count: int
    number: int
    attempt: int = 0
    order: int = 0


class Rejection(msgspec.Struct, array_like=True):
    """Tries of this sequence with an attempt lower than ``below`` are never stored any more; ``number``: its record."""

    sequence: int
    below: int
    number: int = -1


class ProducerWindow(msgspec.Struct, frozen=True, array_like=True):
    """One producer's part of a snapshot. ``floor``: the highest sequence that was forgotten (-1: none).

    ``writer``: the instance whose window it is.
    """

    producer: str
    floor: int
    entries: list[Entry]
    writer: str = ""
    rejected: list[Rejection] = []


class DedupState(msgspec.Struct, frozen=True, array_like=True):
    """All producers, the longest idle first. ``ledgers``: the names that entries refer to by place.

    ``gaps``: the newest ledger of each writer that could not be read in whole.
    """

    ledgers: list[str] = []
    windows: list[ProducerWindow] = []
    gaps: list[str] = []


class LedgerNames:
    """Ledger names by the place which entries refer to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, ledger: str) -> int:
        """The place of this ledger."""
        place = self._places.get(ledger)
        if place is None:
            place = self._places[ledger] = len(self.names)
            self.names.append(ledger)
        return place


class DedupWindow:
    """All producers of one owner, the instance ``writer``.

    Beyond the bounds the longest idle producers keep their floor only (their repeats are then errors, not duplicates);
    floors are kept of ``producers`` too. ``size``: how many batches it remembers.
    """

    def __init__(
        self, writer: str, ledgers: LedgerNames, per_producer: int, producers: int, max_entries: int = MAX_ENTRIES
    ) -> None:
        self._writer = writer
        self._ledgers = ledgers
        self._per_producer = per_producer
        self._producers = producers
        self._max_entries = max_entries
        self._windows: OrderedDict[str, dict[int, Entry]] = OrderedDict()
        self._floors: OrderedDict[str, int] = OrderedDict()
        self._rejected: dict[str, dict[int, Rejection]] = {}
        self._lost = False
        self.size = 0

    def seen(self, producer: str, sequence: int) -> Entry | None:
        """The entry of that sequence, ``None`` if it is new; raises :class:`SequenceError` below the window."""
        entry = self._windows.get(producer, {}).get(sequence)
        floor = sequence if self._lost else self._floors.get(producer, NO_FLOOR)
        if entry is None and sequence <= floor:
            raise SequenceError(
                f"sequence {sequence} of producer {producer!r} is below the dedup window (forgotten up to {floor}); "
                "whether this batch was stored can no longer be told: read it back, or publish it under a new producer"
            )
        return entry

    def check_not_rejected(self, producer: str, sequence: int, attempt: int) -> None:
        """Raise :class:`RejectedTryError` if it was promised never to store this try."""
        rejection = self._rejected.get(producer, {}).get(sequence)
        if rejection is not None and attempt < rejection.below:
            raise RejectedTryError(
                f"try {attempt} of sequence {sequence} of producer {producer!r} comes too late: a later one, sent to "
                "another instance, has taken its place"
            )

    def remember(
        self,
        producer: str,
        sequence: int,
        ledger: str,
        first_offset: int,
        count: int,
        number: int,
        attempt: int = 0,
        order: int = 0,
    ) -> None:
        """Note that this sequence was stored; ``order``: its place among the producer's batches, if another."""
        place = self._ledgers.place(ledger)
        window = self._window(producer)
        self.size += _put(window, Entry(sequence, place, first_offset, count, number, attempt, order))
        if len(window) > self._per_producer:
            self._forget(producer, window, next(iter(window)))
        self._bound()

    def _window(self, producer: str) -> dict[int, Entry]:
        window = self._windows.setdefault(producer, {})
        self._windows.move_to_end(producer)
        return window

    def reject(self, producer: str, sequence: int, below: int) -> Rejection:
        """Promise to store no try lower than ``below``; the caller records it unless its ``number`` says it is."""
        rejected = self._rejected.setdefault(producer, {})
        rejection = rejected.get(sequence)
        if rejection is None or rejection.below < below:
            rejection = rejected[sequence] = Rejection(sequence, below, UNRECORDED)
            if len(rejected) > self._per_producer:
                oldest = next(iter(rejected))
                del rejected[oldest]
                self._raise_floor(producer, oldest)
        if len(self._rejected) > self._producers:
            idle, dropped = next(iter(self._rejected.items()))
            del self._rejected[idle]
            self._raise_floor(idle, max(dropped))
        return rejection

    def _forget(self, producer: str, window: dict[int, Entry], sequence: int) -> None:
        del window[sequence]
        self.size -= 1
        self._raise_floor(producer, sequence)

    def _raise_floor(self, producer: str, sequence: int) -> None:
        self._floors[producer] = max(sequence, self._floors.get(producer, NO_FLOOR))
        self._floors.move_to_end(producer)
        if len(self._floors) > self._producers:
            self._floors.popitem(last=False)

    def _bound(self) -> None:
        while len(self._windows) > self._producers or self.size > self._max_entries:
            idle, dropped = self._windows.popitem(last=False)
            self.size -= len(dropped)
            if dropped:
                self._raise_floor(idle, max(dropped))

    def forget_from(self, ledger: str, number: int) -> list[tuple[str, int]]:
        """Forget batches of ``ledger`` from record ``number`` on, never stored; returns (producer, place in its order).

        Promises stay, but have to be recorded anew.
        """
        place = self._ledgers.place(ledger)
        forgotten: list[tuple[str, int]] = []
        for producer, window in self._windows.items():
            for sequence in [s for s, e in window.items() if e.ledger == place and e.number >= number]:
                forgotten.append((producer, window.pop(sequence).order or sequence))
                self.size -= 1
        for rejected in self._rejected.values():
            for rejection in rejected.values():
                if rejection.number >= number:
                    rejection.number = UNRECORDED
        return forgotten

    def lose(self) -> None:
        """Forget everything, and that it was: whatever is asked can no longer be told."""
        for known in (self._windows, self._floors, self._rejected):
            known.clear()
        self.size = 0
        self._lost = True

    def rolled(self) -> None:
        """The ledger was closed, everything in it is confirmed: its record numbers mean nothing any more."""
        for rejected in self._rejected.values():
            for rejection in rejected.values():
                rejection.number = min(rejection.number, -1)

    def snapshot(self) -> list[ProducerWindow]:
        """Its whole state."""
        if self._lost:
            return [ProducerWindow("", NO_FLOOR, [], self._writer)]
        idle = [name for name in dict.fromkeys((*self._floors, *self._rejected)) if name not in self._windows]
        return [self._part(name, []) for name in idle] + [
            self._part(name, list(window.values())) for name, window in self._windows.items()
        ]

    def _part(self, producer: str, entries: list[Entry]) -> ProducerWindow:
        rejected = list(self._rejected.get(producer, {}).values())
        return ProducerWindow(producer, self._floors.get(producer, NO_FLOOR), entries, self._writer, rejected)

    def restore(self, part: ProducerWindow, ledgers: list[str]) -> None:
        """Merge a snapshot's part in; of two windows the highest sequences stay. ``ledgers``: the snapshot's names."""
        if not part.producer or self._lost:
            self.lose()
            return
        if part.floor > NO_FLOOR:
            self._raise_floor(part.producer, part.floor)
        for rejection in part.rejected:
            self.reject(part.producer, rejection.sequence, rejection.below).number = -1
        if not part.entries:
            return
        window = self._window(part.producer)
        for entry in part.entries:
            self.size += _put(window, msgspec.structs.replace(entry, ledger=self._ledgers.place(ledgers[entry.ledger])))
        self._windows[part.producer] = window = dict(sorted(window.items()))
        while len(window) > self._per_producer:
            self._forget(part.producer, window, next(iter(window)))
        self._bound()


class DedupWindows:
    """The windows of all owners whose ledgers are served here: the instance's own, and those it has taken over."""

    def __init__(self, own: str, per_producer: int, producers: int) -> None:
        self._bounds = (per_producer, producers)
        self._names = LedgerNames()
        self._own = own
        self.own = DedupWindow(own, self._names, *self._bounds)
        self._others: dict[str, DedupWindow] = {}
        self._gaps: dict[str, LedgerId] = {}

    def of(self, ledger: str) -> DedupWindow:
        """The window to which a ledger's batches belong: that of its writer."""
        writer = ledger.rpartition("/")[0]
        if writer == self._own:
            return self.own
        if writer not in self._others:
            self._others[writer] = DedupWindow(writer, self._names, *self._bounds)
        return self._others[writer]

    def seen(self, producer: str, sequence: int) -> Entry | None:
        """Where the batch is, in whichever ledger that is served here.

        Raises :class:`SequenceError` if this instance, as its owner, can no longer tell.
        """
        entry = self.own.seen(producer, sequence)
        if entry is None and self._others:
            for other in self._others.values():
                try:
                    entry = entry or other.seen(producer, sequence)
                except SequenceError:  # nothing says that it was ever sent there
                    continue
        return entry

    def ledger(self, entry: Entry) -> str:
        """The name of the ledger in which an entry's batch is."""
        return self._names.names[entry.ledger]

    def damaged(self, ledger: str) -> None:
        """Not all of this ledger could be read: a batch that is not in its window may be stored all the same."""
        found = LedgerId.parse(ledger)
        writer = ledger.rpartition("/")[0]
        self._gaps[writer] = max(found, self._gaps.get(writer, found))

    def has_gap(self, ledger: str) -> bool:
        """Whether a batch that came to this ledger's writer when it wrote this one may be missing from its window."""
        gap = self._gaps.get(ledger.rpartition("/")[0])
        return gap is not None and LedgerId.parse(ledger) <= gap

    def snapshot(self) -> DedupState:
        """The whole state."""
        parts = [part for window in (*self._others.values(), self.own) for part in window.snapshot()]
        return DedupState(list(self._names.names), parts, [str(gap) for gap in self._gaps.values()])

    def restore(self, state: DedupState) -> None:
        """Merge a snapshot's state in."""
        for part in state.windows:
            writer = part.writer or (state.ledgers[part.entries[0].ledger].rpartition("/")[0] if part.entries else "")
            self.of(f"{writer or self._own}/0").restore(part, state.ledgers)
        for gap in state.gaps:
            self.damaged(gap)
        self._bound()

    def _bound(self) -> None:
        """Instances come and go: of those taken over longest ago only that they were there is kept."""
        kept = total = 0
        for other in reversed(self._others.values()):
            kept, total = kept + 1, total + other.size
            if kept > MAX_WRITERS or total > MAX_ENTRIES:
                other.lose()


def _put(window: dict[int, Entry], entry: Entry) -> bool:
    """Whether it is new. Of several copies in ledgers of one writer the one with the lowest attempt counts."""
    known = window.get(entry.sequence)
    if known is None or entry.attempt <= known.attempt:
        window[entry.sequence] = entry
    return known is None
