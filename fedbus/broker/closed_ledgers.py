"""What is in the closed ledgers of an instance, as far as retention has to know; asked of the shell, once each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fedbus.broker.effects import Survey, Surveyed
from fedbus.broker.ledger import Ledgers


class _Sight(NamedTuple):
    """When a closed ledger was first seen, and the newest record of the ledger then being written."""

    time_ms: int
    writing: str
    number: int


class ClosedLedgers:
    """Iterating gives those that were surveyed."""

    def __init__(self, ledgers: Ledgers) -> None:
        self._ledgers = ledgers
        self._seen: dict[str, _Sight] = {}
        self._surveyed: dict[str, Surveyed] = {}

    def __iter__(self) -> Iterator[Surveyed]:
        return iter(list(self._surveyed.values()))

    def surveyed(self, ledger: Surveyed) -> None:
        """What is in one of them."""
        if ledger.ledger in self._seen:
            self._surveyed[ledger.ledger] = ledger

    def look(self, now_ms: int) -> None:
        """Ask about ledgers nothing is known of; forget those that are served by somebody else now."""
        closed = self._ledgers.closed
        for known in (self._seen, self._surveyed):
            for gone in set(known) - set(closed):
                del known[gone]
        for ledger in closed:
            if ledger not in self._seen:
                self._seen[ledger] = _Sight(now_ms, self._ledgers.current, self._ledgers.next_number() - 1)
            if ledger not in self._surveyed:
                self._ledgers.effects.append(Survey(ledger))

    def seen_ms(self, ledger: str) -> int:
        """When it was first seen closed."""
        return self._seen[ledger].time_ms

    def superseded(self, ledger: str) -> bool:
        """Whether all that it says of groups and producers is durable elsewhere: a snapshot came after it."""
        seen = self._seen[ledger]
        return seen.writing != self._ledgers.current or self._ledgers.is_confirmed(seen.number)

    def topics(self) -> set[str]:
        """What is known of the topics in them (filters that stand for many are left out)."""
        return {topic for each in self._surveyed.values() for topic in each.topics or () if not topic.endswith(">")}
