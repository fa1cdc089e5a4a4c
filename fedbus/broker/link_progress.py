"""How far each origin ledger was forwarded to this instance, per filter; also for links it no longer holds.

Kept as spans (``link_spans.py``). Part of the folded state. Progress runs ahead of the disk; what the disk then refuses
is taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from fedbus.broker.link_spans import Turn, joined, pattern_of, turn_of
from fedbus.broker.protocol import LinkFilter
from fedbus.broker.state import LinkScanned
from fedbus.topic import may_overlap


class LinkProgress:
    """``scanned``: origin ledger → span → offset up to which everything was forwarded."""

    def __init__(self) -> None:
        self.scanned: dict[str, dict[str, int]] = {}
        self._dirty: set[str] = set()
        self._undo: deque[tuple[int, str, dict[str, int]]] = deque()  # record number, ledger, progress before it

    def of(self, ledger: str) -> dict[str, int]:
        """One origin ledger's progress."""
        return self.scanned.setdefault(ledger, {})

    def advance(self, ledger: str, spans: Iterable[str], offset: int) -> None:
        """These spans were scanned up to ``offset``, and nothing was found since the last record."""
        self.fold(ledger, dict.fromkeys(spans, offset))
        self._dirty.add(ledger)

    def recorded(self, number: int, ledger: str, spans: Iterable[str], offset: int) -> None:
        """Record ``number``, already written, brings these spans up to ``offset``."""
        self._undo.append((number, ledger, dict(self.of(ledger))))
        self.fold(ledger, dict.fromkeys(spans, offset))

    def forget(self, ledger: str) -> None:
        """Nothing can come of it any more."""
        if all(name != ledger for _, name, _ in self._undo):
            self.scanned.pop(ledger, None)
            self._dirty.discard(ledger)

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

    def durable_to(self, ledger: str, spans: Iterable[str]) -> int:
        """Up to where all that these spans hold is confirmed."""
        reached = next((before for _, name, before in self._undo if name == ledger), self.of(ledger))
        return min((reached.get(span, 0) for span in spans), default=0)

    def take_dirty(self) -> list[LinkScanned]:
        """Progress that no event has carried to the ledger, once."""
        dirty, self._dirty = self._dirty, set()
        return [LinkScanned(ledger, dict(self.scanned[ledger])) for ledger in sorted(dirty)]

    def fold(self, ledger: str, scanned_to: dict[str, int]) -> None:
        """Progress found in a record."""
        reached = self.of(ledger)
        for span, offset in scanned_to.items():
            reached[span] = max(reached.get(span, 0), offset)
        self.scanned[ledger] = joined(reached)

    def state(self) -> list[LinkScanned]:
        """Its part of a snapshot."""
        return [LinkScanned(ledger, dict(scanned)) for ledger, scanned in self.scanned.items()]

    def durable(self) -> dict[str, dict[str, int]]:
        """All spans as far as they are confirmed."""
        found = {ledger: dict(spans) for ledger, spans in self.scanned.items()}
        for _, ledger, before in reversed(self._undo):
            found[ledger] = dict(before)
        return found

    def turn(self, ledger: str, wants: Sequence[LinkFilter]) -> Turn:
        """What to pull next for these filters."""
        turn = turn_of(self.of(ledger), wants)
        return msgspec.structs.replace(turn, others=self.dropped(turn))

    def dropped(self, turn: Turn) -> dict[str, int]:
        """What other filters took before must not come again."""
        return turn.others

    def answers_from(self, turn: Turn) -> dict[str, int]:
        """Per span from where on all that its filter takes is still to come under it, and not under another one."""
        return {
            span: max(at, *(had for other, had in turn.others.items() if _overlap(span, other)), 0)
            for span, at in turn.spans.items()
        }


def _overlap(span: str, other: str) -> bool:
    return may_overlap(pattern_of(span), pattern_of(other))
