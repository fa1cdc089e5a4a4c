"""A violation: which invariant, what happened, and the entries that show it."""

from __future__ import annotations

import msgspec

from fedbus_loadtests.chaos.entry import Entry

EXPLAINED = 5  # of each invariant; the rest is counted


class Violation(msgspec.Struct, frozen=True):
    """``text`` says what must not be; ``shown_by`` are the entries, in the order of the story."""

    invariant: str
    text: str
    shown_by: tuple[Entry, ...] = ()


class Violations:
    """What one check has found: the first few in full, the others counted."""

    def __init__(self, invariant: str) -> None:
        self.invariant = invariant
        self.count = 0
        self.first: list[Violation] = []

    def add(self, text: str, *shown_by: Entry) -> None:
        """Note one."""
        self.count += 1
        if len(self.first) < EXPLAINED:
            self.first.append(Violation(self.invariant, text, shown_by))
