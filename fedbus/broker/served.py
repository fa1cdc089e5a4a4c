"""The ledgers that an instance hands out: closed ones, its own and those of others, and the open one behind them."""

from __future__ import annotations

from collections.abc import Mapping

from fedbus.broker.geo_batches import GeoBatches
from fedbus.broker.hidden import Hidden
from fedbus.broker.withheld import Withheld
from fedbus.position import LedgerId


class ServedLedgers:
    """By name. ``current``: the open one (empty: none); ``closed``: the others with their end offsets."""

    def __init__(self, current: str, closed: Mapping[str, int]) -> None:
        self.current = current
        self.closed = dict(closed)
        self.confirmed_offset = 0  # the end of the open one
        self.withheld = Withheld()
        self.geo = GeoBatches()
        self.hidden = Hidden(self.withheld, self.geo)
        self.retired: set[str] = set()  # expired: not served again, whatever is told later

    def end(self, ledger: str) -> int:
        """One past the last confirmed offset of a ledger (0 for one that is not here)."""
        return self.confirmed_offset if ledger == self.current else self.closed.get(ledger, 0)

    def names(self) -> list[str]:
        """All ledgers, closed ones first, the open one last."""
        return [*self.closed, self.current] if self.current else list(self.closed)

    def adopt(self, closed: Mapping[str, int]) -> None:
        """Serve these closed ledgers too."""
        self.closed.update({ledger: end for ledger, end in closed.items() if ledger not in self.retired})

    def retire(self, ledger: str) -> None:
        """Serve this closed ledger no more: its events have expired."""
        self.closed.pop(ledger, None)
        self.withheld.retire(ledger)
        self.geo.drop(ledger, 0)
        self.retired.add(ledger)

    def tails(self) -> dict[str, int]:
        """Where ``latest`` is: for each instance's newest ledger here (older ones are finished) its confirmed end."""
        newest: dict[tuple[str, str], LedgerId] = {}
        for name in self.names():
            ledger = LedgerId.parse(name)
            known = newest.get((ledger.region, ledger.instance))
            if known is None or known.epoch < ledger.epoch:
                newest[ledger.region, ledger.instance] = ledger
        return {str(ledger): self.end(str(ledger)) for ledger in newest.values()}

    def end_current(self) -> None:
        """The open ledger is finished; it is served like the other closed ones."""
        if self.current:
            self.closed[self.current] = self.confirmed_offset
        self.current = ""
