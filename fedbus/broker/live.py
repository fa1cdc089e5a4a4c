"""Live subscriptions: a stream over a cursor that the client keeps; nothing is remembered when the session ends."""

from __future__ import annotations

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.effects import Effect, Send
from fedbus.broker.feed import Feed
from fedbus.broker.ledger import Ledgers
from fedbus.topic import FilterSet


class Live:
    """One session's live subscription; delivers in ledger order as far as its credit goes."""

    def __init__(
        self, session: bytes, number: int, filters: FilterSet, cursor: Cursor, credit: int, feed: Feed
    ) -> None:
        self.session = session
        self.number = number
        self.filters = filters
        self.cursor = cursor
        self.credit = credit
        self._feed = feed

    def grant(self, events: int, most: int) -> None:
        """More credit."""
        self.credit = min(most, self.credit + events)

    def pump(self, ledgers: Ledgers, effects: list[Effect]) -> int:
        """Deliver what can be delivered now; returns how many events that were."""
        before = self.credit
        if before > 0:
            for ledger in self.cursor.behind(ledgers):
                self._scan(ledger, ledgers.end(ledger), effects)
        return before - self.credit

    def _scan(self, ledger: str, end: int, effects: list[Effect]) -> None:
        positions = self.cursor.positions
        while self.credit > 0 and positions[ledger] < end:
            stored = self._feed.at(ledger, positions[ledger])
            if stored is None:
                blank = self._feed.blank_until(ledger, positions[ledger])
                if blank == positions[ledger]:
                    blank = self._unwanted_until(ledger, blank)
                if blank == positions[ledger]:
                    return
                positions[ledger] = blank
                continue
            places = self.cursor.wanted(stored, self.filters)
            taken = places[: self.credit]
            whole = len(taken) == len(places)
            positions[ledger] = stored.next_offset if whole else stored.first_offset + places[len(taken)]
            if taken:
                self.credit -= len(taken)
                batch = stored.batch.select(taken)
                after = stored.scanned_to if whole else stored.offsets[taken[-1]] + 1
                deliver = p.Deliver(self.number, stored.origin_ledger, stored.ranges(taken), after, flags=stored.flags)
                effects.append(Send(self.session, deliver, (batch.index_bytes, batch.payload)))

    def _unwanted_until(self, ledger: str, offset: int) -> int:
        """A batch that does not count yet is waited for only if there is something in it that is wanted."""
        stored = self._feed.at(ledger, offset, withheld=True)
        return offset if stored is None or len(self.cursor.wanted(stored, self.filters)) else stored.next_offset
