"""Withheld batches: durable and acknowledged, but hidden until it is certain that no earlier try of them counts.

Of all copies of a batch that one counts which was sent with the lowest attempt (protocol rule 10). A copy whose sender
asked for it names where earlier tries may survive; it stays hidden until each of these ledgers has been judged: one
that was found there makes this copy *void*, it is never dispatched; if none was, it is *released*. The outcome is a
RESOLVED record; who asks the owners is ``broker/inquiry.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fedbus.broker.ledger_ranges import LedgerRanges
from fedbus.broker.protocol import FORGOTTEN, STORED, WAITING, Settled, Tried
from fedbus.broker.record import WITHHELD, Record

VOIDED = -1  # the attempt of a copy of which an earlier one was found
RELEASED, VOID, RELEASED_UNCERTAIN = 0, 1, 2  # uncertain: an owner has forgotten; then it is a possible duplicate


class Copy(msgspec.Struct, array_like=True):
    """One withheld batch. ``tried``: where earlier tries are still to be judged."""

    ledger: str
    first_offset: int
    next_offset: int
    producer: str
    attempt: int
    tried: list[Tried]
    uncertain: bool = False


class Resolved(msgspec.Struct, frozen=True, array_like=True):
    """What became of the batch at this offset (body of a RESOLVED record: a list of these)."""

    ledger: str
    first_offset: int
    outcome: int


class WithheldState(msgspec.Struct, frozen=True, array_like=True):
    """Its part of a snapshot. ``void``, ``uncertain``: offsets of batches so resolved."""

    copies: list[Copy] = []
    void: list[Settled] = []
    uncertain: list[Settled] = []


class Withheld:
    """All batches withheld at this instance, and the void ones. ``changes`` grows whenever one is resolved."""

    def __init__(self) -> None:
        self.changes = 0
        self.resolved = {RELEASED: 0, VOID: 0, RELEASED_UNCERTAIN: 0}
        self._copies: dict[str, dict[int, Copy]] = {}
        self.void = LedgerRanges()
        self.uncertain = LedgerRanges()  # released although an owner could no longer tell: possible duplicates
        self._written: list[tuple[int, list[Resolved]]] = []  # (record number, outcomes) not yet confirmed
        self._deciding: set[tuple[str, int]] = set()  # those in it

    # -- what is hidden ------------------------------------------------------------------------------------------------

    @property
    def matters(self) -> bool:
        """Whether any batch at all is hidden, or was released uncertainly."""
        return bool(self._copies or self.void or self.uncertain)

    def __len__(self) -> int:
        return sum(len(copies) for copies in self._copies.values())

    def __iter__(self) -> Iterator[Copy]:
        for copies in self._copies.values():
            yield from copies.values()

    def until(self, ledger: str, offset: int) -> int:
        """One past the end of the withheld batch that holds this offset; 0: none does."""
        for copy in self._copies.get(ledger, {}).values():
            if copy.first_offset <= offset < copy.next_offset:
                return copy.next_offset
        return 0

    # -- what becomes of it --------------------------------------------------------------------------------------------

    def stored(self, ledger: str, record: Record) -> None:
        """A batch was stored (or found on recovery): hide it if it asks for that."""
        meta = record.events_meta()
        if meta.flags & WITHHELD and meta.tried:
            copy = Copy(ledger, record.first_offset, record.next_offset, meta.producer, meta.attempt, list(meta.tried))
            self._copies.setdefault(ledger, {})[record.first_offset] = copy

    def judged(self, copy: Copy, tried: Tried, fate: int) -> None:
        """An owner has said what became of an earlier try."""
        if tried not in copy.tried or fate == WAITING:
            return
        copy.uncertain = copy.uncertain or fate == FORGOTTEN
        copy.tried = [] if fate == STORED else [other for other in copy.tried if other != tried]
        if fate == STORED:
            copy.attempt = VOIDED

    def take_decided(self) -> list[Resolved]:
        """Outcomes that are certain now, once: to be recorded."""
        decided: list[Resolved] = []
        for copy in self:
            if not copy.tried and (copy.ledger, copy.first_offset) not in self._deciding:
                self._deciding.add((copy.ledger, copy.first_offset))
                certain = RELEASED_UNCERTAIN if copy.uncertain else RELEASED
                decided.append(Resolved(copy.ledger, copy.first_offset, VOID if copy.attempt == VOIDED else certain))
        return decided

    def recorded(self, number: int, outcomes: list[Resolved]) -> None:
        """These outcomes are on their way to disk."""
        self._written.append((number, outcomes))

    def confirmed(self, number: int) -> bool:
        """Records up to this number are durable: what they resolve comes into effect. Whether anything did."""
        before = self.changes
        while self._written and self._written[0][0] <= number:
            for outcome in self._written.pop(0)[1]:
                self.resolve(outcome)
        return self.changes != before

    def resolve(self, outcome: Resolved) -> None:
        """Hide the batch no more, or for ever."""
        self._deciding.discard((outcome.ledger, outcome.first_offset))
        copies = self._copies.get(outcome.ledger, {})
        copy = copies.pop(outcome.first_offset, None)
        if not copies:
            self._copies.pop(outcome.ledger, None)
        if copy is None:
            return
        self.changes += 1
        self.resolved[outcome.outcome] += 1
        if outcome.outcome != RELEASED:
            kept = self.void if outcome.outcome == VOID else self.uncertain
            kept.add(copy.ledger, copy.first_offset, copy.next_offset)

    def forget_from(self, ledger: str, offset: int) -> None:
        """Nothing from this offset on was stored, nor any outcome that was on its way: those are decided anew."""
        copies = self._copies.get(ledger, {})
        for first in [first for first in copies if first >= offset]:
            del copies[first]
        if not copies:
            self._copies.pop(ledger, None)
        self._written.clear()
        self._deciding.clear()

    def retire(self, ledger: str) -> None:
        """A ledger is no longer served."""
        self._copies.pop(ledger, None)
        self.void.retire(ledger)
        self.uncertain.retire(ledger)

    # -- recovery ------------------------------------------------------------------------------------------------------

    def state(self) -> WithheldState:
        """Its part of a snapshot."""
        return WithheldState(list(self), self.void.state(), self.uncertain.state())

    def restore(self, state: WithheldState) -> None:
        """Merge a snapshot's part in."""
        for copy in state.copies:
            self._copies.setdefault(copy.ledger, {})[copy.first_offset] = copy
        self.void.restore(state.void)
        self.uncertain.restore(state.uncertain)
