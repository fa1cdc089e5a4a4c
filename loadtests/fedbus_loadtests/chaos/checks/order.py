"""V4: per producer and key, offsets in a ledger follow the sequence, and first deliveries follow the offsets."""

from __future__ import annotations

from itertools import pairwise

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.published import Publication, Published
from fedbus_loadtests.chaos.violation import Violations

Stream = tuple[str, str, str]  # ledger, producer, key


class KeyOrder:
    """Counts what was acknowledged, where it was acknowledged.

    A try without an answer may have been stored at any later time (by an instance that was stopped for a while, for
    one), and the same event again behind others: consumers were told that it may be a duplicate.
    """

    def __init__(self, published: Published) -> None:
        self.violations = Violations("V4")
        self._published = published
        self._acked: dict[Stream, list[Entry]] = {}
        self._delivered: dict[tuple[str, Stream], list[Entry]] = {}  # by subscription: first deliveries
        self._seen: set[tuple[str, str]] = set()  # subscription, position

    def see(self, entry: Entry) -> None:
        """Collect acknowledgements and first deliveries, by stream."""
        publication = self._published.by_id.get(entry.id) if entry.kind == "ok" else None
        if publication is None or not publication.invoked.key:
            return
        stream = (entry.ledger, publication.invoked.producer, publication.invoked.key)
        if entry.operation == "publish":
            self._acked.setdefault(stream, []).append(entry)
        elif entry.operation == "deliver" and (entry.subscription, entry.position) not in self._seen:
            self._seen.add((entry.subscription, entry.position))
            if entry.delivery == 1:  # else the first one reached somebody who died before telling
                self._delivered.setdefault((entry.subscription, stream), []).append(entry)

    def end(self) -> None:
        """Compare neighbours."""
        for (ledger, producer, key), acked in self._acked.items():
            for before, after in pairwise(sorted(acked, key=lambda entry: entry.offset)):
                if self._sequence(before) > self._sequence(after):
                    text = f"{after.id} of producer {producer} and key {key} is behind {before.id} in {ledger}"
                    self.violations.add(text, before, after)
        for (subscription, (_, _, key)), delivered in self._delivered.items():
            places = [entry for entry in delivered if _acked_at(self._published.by_id[entry.id], entry.position)]
            for before, after in pairwise(places):
                if before.offset > after.offset:
                    text = f"{subscription} first got {after.id} of key {key} after {before.id}"
                    self.violations.add(text, before, after)

    def _sequence(self, entry: Entry) -> int:
        return self._published.by_id[entry.id].invoked.sequence


def _acked_at(publication: Publication, position: str) -> bool:
    return any(acked.position == position for acked in publication.acked)
