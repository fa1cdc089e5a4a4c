"""Settlement: which events of a group are done with, per origin ledger.

An event is *settled* when it was acknowledged, or when the group does not want it; it is *open* while it is dispatched
and not settled. Positions are origin positions, so that the state means the same in every region. Offsets at which
nothing comes any more are settled too, so that in time each ledger is one range. Acknowledgements not yet handed to the
ledger are *dirty*; those that came from another region, and are not either, are *learned*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedbus.broker import protocol as p
from fedbus.broker.link_spans import pattern_of
from fedbus.broker.record import Origin
from fedbus.broker.stored import Stored
from fedbus.ranges import Range, RangeSet, range_around
from fedbus.topic import covers, may_overlap


class Settlement:
    """One group's settled offsets at one instance. ``outstanding``: events dispatched here and not settled."""

    def __init__(self, filters: Sequence[str], seen: dict[str, int]) -> None:
        self.outstanding = 0
        self._filters = filters
        self._done: dict[str, RangeSet] = {}
        self._open: dict[str, RangeSet] = {}
        self._dispatched_before: dict[str, int] = {}  # by an earlier incarnation, at most
        self.dirty: dict[str, RangeSet] = {}
        self._learned: dict[str, RangeSet] = {}
        for ledger, offset in seen.items():
            _in(self._done, ledger).add(0, offset)

    def ack(self, settled: Iterable[p.Settled]) -> None:
        """Note acknowledgements; offsets that were never dispatched are ignored (nobody can settle the future)."""
        for part in settled:
            ranges = _in_order(part.ranges)
            taken = self._close(part.ledger, ranges)
            done = _in(self._done, part.ledger)
            if before := self._dispatched_before.get(part.ledger, 0):
                earlier = [gap for start, end in ranges if start >= 0 for gap in done.gaps(start, min(end, before))]
                taken = list(RangeSet([*taken, *earlier]))
            if taken:
                done.add_all(taken)
                _in(self.dirty, part.ledger).add_all(taken)

    def _close(self, ledger: str, ranges: Sequence[Range]) -> list[Range]:
        """What was open of these ranges (sorted and disjoint), no longer open."""
        dispatched = self._open.get(ledger)
        found = dispatched.take(ranges) if dispatched is not None else []
        self.outstanding -= sum(high - low for low, high in found)
        return found

    def withdraw(self, ledger: str, ranges: Sequence[Range]) -> None:
        """These are not dispatched after all."""
        self._close(ledger, ranges)

    def dispatching(self, stored: Stored, places: Sequence[int]) -> Sequence[int]:
        """Of the wanted places those to dispatch; whatever else the batch answers for is settled here and now."""
        ledger, origin = stored.origin_ledger, stored.origin
        done, dispatched = _in(self._done, ledger), _in(self._open, ledger)
        if places:
            offsets = stored.offsets
            first, last = offsets[places[0]], offsets[places[-1]] + 1
            if done.overlap(first, last) or dispatched.overlap(first, last):
                places = [at for at in places if offsets[at] not in done and offsets[at] not in dispatched]
            for start, end in stored.ranges(places) if places else ():
                self.outstanding += dispatched.add(start, end)
        answered_from = stored.first_offset if origin is None else _answered_from(origin, self._filters)
        for start, end in dispatched.gaps(answered_from, stored.scanned_to):
            done.add(start, end)
        if origin is not None:
            self.nothing_at(stored.ledger, stored.first_offset, stored.next_offset)
        return places

    def nothing_at(self, ledger: str, start: int, end: int) -> None:
        """No event that can be read was born at these offsets (they hold linked or damaged ones)."""
        for low, high in _in(self._open, ledger).gaps(start, end):
            _in(self._done, ledger).add(low, high)

    def unsettled(self, ledger: str, ranges: Iterable[Range]) -> list[Range]:
        """The parts of these ranges that are not settled."""
        done = _in(self._done, ledger)
        return [gap for start, end in ranges for gap in done.gaps(start, end)]

    def is_settled(self, ledger: str, ranges: Iterable[Range]) -> bool:
        """Whether nothing of these ranges is unsettled."""
        done = _in(self._done, ledger)
        return all(done.covers(start, end) for start, end in ranges)

    def take_dirty(self) -> tuple[list[p.Settled], list[p.Settled]]:
        """What was not yet handed to the ledger, once: what was settled here, and what was learned."""
        dirty, self.dirty = self.dirty, {}
        learned, self._learned = self._learned, {}
        return _parts(dirty), _parts(learned)

    def learn(self, settled: Iterable[p.Settled], *, tell: bool) -> None:
        """These are settled, dispatched here or not: so another region says, or they are lost.

        They are recorded, and (``tell``) told on like acknowledgements.
        """
        noted = self.dirty if tell else self._learned
        for part in settled:
            done = _in(self._done, part.ledger)
            new = [gap for start, end in _in_order(part.ranges) if start >= 0 for gap in done.gaps(start, end)]
            if new:
                self._close(part.ledger, new)
                done.add_all(new)
                _in(noted, part.ledger).add_all(new)

    def around(self, ledger: str, ranges: Iterable[Range]) -> list[Range]:
        """Everything settled that is in one piece with these ranges (of what was forgotten: as they are)."""
        done = _in(self._done, ledger)
        found: list[Range] = []
        for start, end in ranges:
            if not found or found[-1][1] < end:
                found.append(range_around(done, start) or (start, end))
        return found

    def restore(self, settled: Iterable[p.Settled]) -> None:
        """Fold acknowledgements of an earlier incarnation (or of an adopted instance) in."""
        for part in settled:
            ranges = _in_order(part.ranges)
            self._close(part.ledger, ranges)
            _in(self._done, part.ledger).add_all(ranges)

    def dispatched_before(self, ends: dict[str, int]) -> None:
        """Acknowledgements of what an earlier incarnation may have dispatched (up to these ends) are still taken."""
        for ledger, end in ends.items():
            self._dispatched_before[ledger] = max(end, self._dispatched_before.get(ledger, 0))

    def forget(self, ledger: str) -> None:
        """No event of this origin ledger will come again."""
        dispatched = self._open.pop(ledger, None)
        self.outstanding -= dispatched.total() if dispatched is not None else 0
        for known in (self._done, self.dirty, self._learned):
            known.pop(ledger, None)
        self._dispatched_before.pop(ledger, None)

    def state(self) -> list[p.Settled]:
        """Everything settled."""
        return _parts(self._done)


def _answered_from(origin: Origin, filters: Sequence[str]) -> int:
    """From which origin offset on all that a group may want is in this batch or open.

    Before it events may have come, or still be to read, in other records: those that a filter of the link took
    which had been scanned further, or that no filter of the link takes.
    """
    since = [(pattern_of(span), max(at, origin.scanned_from)) for span, at in origin.since.items()]
    if not all(any(covers(pattern, wanted) for pattern, _ in since) for wanted in filters):
        return origin.scanned_to
    relevant = (at for pattern, at in since if any(may_overlap(pattern, w) for w in filters))
    return max(relevant, default=origin.scanned_to)


def _in_order(ranges: list[Range]) -> list[Range]:
    """The same values as sorted, disjoint ranges; what a well-behaved consumer sends is so already."""
    edges = [edge for each in ranges for edge in each]
    return ranges if edges == sorted(edges) and all(start < end for start, end in ranges) else list(RangeSet(ranges))


def _in(sets: dict[str, RangeSet], ledger: str) -> RangeSet:
    found = sets.get(ledger)
    if found is None:
        found = sets[ledger] = RangeSet()
    return found


def _parts(sets: dict[str, RangeSet]) -> list[p.Settled]:
    return [p.Settled(ledger, list(ranges)) for ledger, ranges in sets.items() if ranges]
