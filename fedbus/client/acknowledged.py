"""What a member has acknowledged lately: if it comes again, it crossed the acknowledgement on its way.

An instance repeats what runs into its deadline. A member that was slow may find such a repetition in its queue after
it has acknowledged the event; it acknowledges it again and does not hand it out.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker import protocol as wire
from fedbus.ranges import RangeSet

#: Ranges that are remembered, twice: the latest ones, and as many before them.
REMEMBERED = 8192


class Acknowledged:
    """Of one group as one instance serves it. Bounded: what was acknowledged long ago is forgotten."""

    def __init__(self) -> None:
        self._latest: dict[str, RangeSet] = {}
        self._before: dict[str, RangeSet] = {}
        self._count = 0

    def sent(self, settled: Iterable[wire.Settled]) -> None:
        """These acknowledgements are on their way."""
        for each in settled:
            ranges = self._latest.setdefault(each.ledger, RangeSet())
            for start, end in each.ranges:
                ranges.add(start, end)
            self._count += len(each.ranges)
        if self._count >= REMEMBERED:
            self._before, self._latest, self._count = self._latest, {}, 0

    def holds(self, ledger: str, offset: int) -> bool:
        """Whether this event was acknowledged lately."""
        return any(offset in ranges for known in (self._latest, self._before) if (ranges := known.get(ledger)))
