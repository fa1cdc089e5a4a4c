"""Acknowledgements as they are written, on the wire and in records: ranges of offsets per origin ledger."""

from __future__ import annotations

import msgspec

from fedbus.ranges import Range


class Settled(msgspec.Struct, frozen=True, array_like=True):
    """Ranges of offsets of one origin ledger."""

    ledger: str
    ranges: list[Range]


class GroupSettled(msgspec.Struct, frozen=True, array_like=True):
    """Acknowledgements of one group under one identity (body of a SETTLED record: a list of these)."""

    group: str
    settled: list[Settled]
    created_ns: int = 0
    generation: int = 1

    @property
    def identity(self) -> tuple[int, int]:
        """Which group of that name: (created, generation)."""
        return self.created_ns, self.generation

    @property
    def events(self) -> int:
        """How many are settled by it."""
        return sum(end - start for part in self.settled for start, end in part.ranges)
