"""Offsets of several ledgers, as one set of ranges each."""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker.protocol import Settled
from fedbus.ranges import RangeSet


class LedgerRanges:
    """A set of (ledger, offset)."""

    def __init__(self) -> None:
        self._ranges: dict[str, RangeSet] = {}

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, ledger: str, start: int, end: int) -> None:
        """Add ``[start, end)`` of this ledger."""
        self._ranges.setdefault(ledger, RangeSet()).add(start, end)

    def until(self, ledger: str, offset: int) -> int:
        """The first offset from this one on that is not in the set."""
        ranges = self._ranges.get(ledger)
        return ranges.low_water(offset) if ranges is not None else offset

    def holds(self, ledger: str, offset: int) -> bool:
        """Whether this offset is in the set."""
        return self.until(ledger, offset) > offset

    def retire(self, ledger: str) -> None:
        """A ledger is no longer served."""
        self._ranges.pop(ledger, None)

    def state(self) -> list[Settled]:
        """All of it."""
        return [Settled(ledger, list(ranges)) for ledger, ranges in self._ranges.items()]

    def restore(self, parts: Iterable[Settled]) -> None:
        """Add what :meth:`state` said."""
        for part in parts:
            for start, end in part.ranges:
                self.add(part.ledger, start, end)
