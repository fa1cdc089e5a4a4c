"""A group's portions of withheld batches: later events of their key slots wait behind them, others go on."""

from __future__ import annotations

from collections.abc import Iterator

from fedbus.broker.hidden import Hidden
from fedbus.broker.in_flight import Portion
from fedbus.broker.settlement import Settlement


class WithheldPortions:
    """One group's, in the order of their ledgers."""

    def __init__(self, settlement: Settlement) -> None:
        self._settlement = settlement
        self._portions: list[Portion] = []  # in the order of their turns
        self._slots = 0  # of all of them

    def __iter__(self) -> Iterator[Portion]:
        return iter(self._portions)

    def add(self, portion: Portion) -> None:
        """Keep until its batch is released or void."""
        self._portions.append(portion)
        self._slots |= portion.slots()

    def slots_before(self, turn: int) -> int:
        """The slots that wait for a portion with an earlier turn."""
        if not self._portions or self._portions[-1].turn < turn:
            return self._slots
        found = 0
        for portion in self._portions:
            if portion.turn < turn:
                found |= portion.slots()
        return found

    def take_resolved(self, hidden: Hidden) -> list[Portion]:
        """Those whose batch was released, no longer kept; what is void is nothing any more."""
        before, self._portions, self._slots = self._portions, [], 0
        released: list[Portion] = []
        for portion in before:
            if hidden.until(portion.ledger, portion.first_offset):
                self.add(portion)
            elif hidden.void.holds(portion.ledger, portion.first_offset):
                self._settlement.withdraw(portion.origin_ledger, portion.ranges)
                for start, end in portion.ranges:
                    self._settlement.nothing_at(portion.ledger, start, end)
            else:
                released.append(portion)
        return released

    def drop(self, ledger: str) -> None:
        """Forget the portions of this local ledger."""
        before, self._portions, self._slots = self._portions, [], 0
        for portion in before:
            if portion.ledger != ledger:
                self.add(portion)
