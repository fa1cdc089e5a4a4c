"""How far each origin ledger was forwarded to this instance, per filter; also for links it no longer holds.

Part of the folded state. Progress runs ahead of the disk; what the disk then refuses is taken back.
"""

from __future__ import annotations

from collections import deque

from fedbus.broker.state import LinkScanned
from fedbus.topic import may_overlap


class LinkProgress:
    """``scanned``: origin ledger → filter → offset up to which everything was forwarded."""

    def __init__(self) -> None:
        self.scanned: dict[str, dict[str, int]] = {}
        self._dirty: set[str] = set()
        self._undo: deque[tuple[int, str, dict[str, int]]] = deque()  # record number, ledger, progress before it

    def of(self, ledger: str) -> dict[str, int]:
        """One origin ledger's progress."""
        return self.scanned.setdefault(ledger, {})

    def advance(self, ledger: str, patterns: list[str], offset: int) -> None:
        """These filters were scanned up to ``offset``, and nothing was found since the last record."""
        self.fold(ledger, dict.fromkeys(patterns, offset))
        self._dirty.add(ledger)

    def recorded(self, number: int, ledger: str, patterns: list[str], offset: int) -> None:
        """Record ``number``, already written, brings these filters up to ``offset``."""
        self._undo.append((number, ledger, dict(self.of(ledger))))
        self.fold(ledger, dict.fromkeys(patterns, offset))

    def confirmed(self, number: int) -> None:
        """Records up to ``number`` are durable: their progress is final."""
        while self._undo and self._undo[0][0] <= number:
            self._undo.popleft()

    def void(self) -> set[str]:
        """Unconfirmed records were never stored; returns the origin ledgers that went back."""
        back: set[str] = set()
        while self._undo:
            _, ledger, before = self._undo.pop()
            self.scanned[ledger] = before
            back.add(ledger)
        return back

    def take_dirty(self) -> list[LinkScanned]:
        """Progress that no event has carried to the ledger, once."""
        dirty, self._dirty = self._dirty, set()
        return [LinkScanned(ledger, dict(self.scanned[ledger])) for ledger in sorted(dirty)]

    def fold(self, ledger: str, scanned_to: dict[str, int]) -> None:
        """Progress found in a record."""
        reached = self.of(ledger)
        for pattern, offset in scanned_to.items():
            reached[pattern] = max(reached.get(pattern, 0), offset)

    def state(self) -> list[LinkScanned]:
        """Its part of a snapshot."""
        return [LinkScanned(ledger, dict(scanned)) for ledger, scanned in self.scanned.items()]

    def dropped(self, ledger: str, patterns: list[str]) -> dict[str, int]:
        """Filters no longer wanted that were scanned further than some of these: what they took must not come again."""
        reached = self.of(ledger)
        lowest = min((reached[pattern] for pattern in patterns), default=0)
        return {pattern: at for pattern, at in reached.items() if pattern not in patterns and at > lowest}

    def answers_from(self, ledger: str, patterns: list[str]) -> dict[str, int]:
        """Per filter from where on all that it takes is still to come under it, and not under a dropped one."""
        reached, dropped = self.of(ledger), self.dropped(ledger, patterns)
        return {
            pattern: max(reached[pattern], *(at for other, at in dropped.items() if may_overlap(pattern, other)), 0)
            for pattern in patterns
        }
