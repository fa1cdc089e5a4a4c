"""Settlement: which events of a group are done with, per origin ledger.

An event is settled when it was acknowledged, or when the group does not want it. Positions are origin positions, so that the
state means the same in every region. Acknowledgements not yet handed to the ledger are *dirty*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedbus.broker import protocol as p
from fedbus.broker.stored import Stored
from fedbus.ranges import Range, RangeSet


class Settlement:
    """One group's settled offsets at one instance. ``outstanding``: events dispatched here and not settled."""

    def __init__(self, seen: dict[str, int]) -> None:
        self.outstanding = 0
        self._done: dict[str, RangeSet] = {}
        self._dispatched_to: dict[str, int] = {}
        self._dispatched_before: dict[str, int] = {}  # by an earlier incarnation, at most
        self._dirty: dict[str, RangeSet] = {}
        for ledger, offset in seen.items():
            self._in(ledger).add(0, offset)

    def ack(self, settled: Iterable[p.Settled]) -> None:
        """Note acknowledgements; offsets that were never dispatched are ignored (nobody can settle the future)."""
        for part in settled:
            dispatched = self._dispatched_to.get(part.ledger, 0)
            known = max(dispatched, self._dispatched_before.get(part.ledger, 0))
            done, dirty = self._in(part.ledger), self._dirty.setdefault(part.ledger, RangeSet())
            for start, end in part.ranges:
                self.outstanding -= done.add(start, min(end, dispatched))
                done.add(max(start, dispatched), min(end, known))
                dirty.add(start, min(end, known))

    def dispatching(self, stored: Stored, places: Sequence[int]) -> Sequence[int]:
        """Of the wanted places those to dispatch; whatever else the batch answers for is settled here and now."""
        origin, done = stored.origin_ledger, self._in(stored.origin_ledger)
        if places and done.overlap(stored.scanned_from, stored.scanned_to):
            offsets = stored.offsets
            places = [place for place in places if offsets[place] not in done]
        self._dispatched_to[origin] = max(self._dispatched_to.get(origin, 0), stored.scanned_to)
        self.outstanding += len(places)
        if len(places) < stored.scanned_to - stored.scanned_from:
            at = stored.scanned_from
            for start, end in stored.ranges(places) if places else ():
                done.add(at, start)
                at = end
            done.add(at, stored.scanned_to)
        return places

    def unsettled(self, ledger: str, ranges: Iterable[Range]) -> list[Range]:
        """The parts of these ranges that are not settled."""
        done = self._in(ledger)
        return [gap for start, end in ranges for gap in done.gaps(start, end)]

    def take_dirty(self) -> list[p.Settled]:
        """Acknowledgements not yet handed to the ledger, once."""
        dirty, self._dirty = self._dirty, {}
        return _parts(dirty)

    def restore(self, settled: Iterable[p.Settled]) -> None:
        """Fold acknowledgements of an earlier incarnation in."""
        for part in settled:
            for start, end in part.ranges:
                self._in(part.ledger).add(start, end)

    def dispatched_before(self, ends: dict[str, int]) -> None:
        """Acknowledgements of what an earlier incarnation may have dispatched (up to these ends) are still taken."""
        self._dispatched_before.update(ends)

    def state(self) -> list[p.Settled]:
        """Everything settled."""
        return _parts(self._done)

    def _in(self, ledger: str) -> RangeSet:
        return self._done.setdefault(ledger, RangeSet())


def _parts(sets: dict[str, RangeSet]) -> list[p.Settled]:
    return [p.Settled(ledger, list(ranges)) for ledger, ranges in sets.items() if ranges]
