"""What is stored and not to be dispatched (yet), for whichever reason: as those see it who read ledgers.

*Withheld* until it is certain that no earlier try of it counts (``broker/withheld.py``), *geo* until a second region
has it (``broker/geo_batches.py``): links see the latter, because that is how a second region gets it.
"""

from __future__ import annotations

from fedbus.broker.geo_batches import GeoBatches
from fedbus.broker.ledger_ranges import LedgerRanges
from fedbus.broker.withheld import Withheld


class Hidden:
    """Of one instance. ``void``: never to be seen; ``uncertain``: possible duplicates."""

    def __init__(self, withheld: Withheld, geo: GeoBatches) -> None:
        self._withheld = withheld
        self._geo = geo
        self.void: LedgerRanges = withheld.void
        self.uncertain: LedgerRanges = withheld.uncertain

    @property
    def matters(self) -> bool:
        """Whether there is anything to look at here."""
        return self._withheld.matters or bool(self._geo)

    @property
    def changes(self) -> int:
        """Grows whenever something is resolved."""
        return self._withheld.changes + self._geo.changes

    def unreadable(self, ledger: str, start: int, end: int) -> None:
        """A link passes over this range: what is damaged there never counts, and nobody is answered for it."""
        if self._geo and not self.void.holds(ledger, start):
            self._geo.drop(ledger, start, end)

    def until(self, ledger: str, offset: int, *, link: bool = False) -> int:
        """One past the end of the hidden batch that holds this offset; 0: none does. ``link``: as a link sees it."""
        found = self._withheld.until(ledger, offset)
        return found if link else max(found, self._geo.until(ledger, offset))
