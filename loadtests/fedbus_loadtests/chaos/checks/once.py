"""V5: one position per event, try and owner; redeliveries say so; nothing comes again once its ack is durable.

Of an idempotent producer (``idempotent=True``) one *delivered* position per event and try in the whole region.
"""

from __future__ import annotations

from fedbus_loadtests.chaos.checks.homes import NS_PER_S, Homes
from fedbus_loadtests.chaos.entry import Entry, writer_of
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.published import Published
from fedbus_loadtests.chaos.violation import Violations

Seen = tuple[str, str]  # subscription, position


class Once:
    """A *try* is one process publishing the event: what it repeats underneath is one producer sequence.

    A delivery may have been on its way when the ack became durable. It certainly was not if its member had got, over
    the same way, an event of the same ledger that was published only after that ack; the order of a session shows it.
    Every delivery of a position has a number of its own; they may begin again after a fault, when the one who counted
    is gone. Groups that change their home are another matter meanwhile: see ``homes.py``.
    """

    def __init__(self, promise: Promise, published: Published, homes: Homes) -> None:
        self.violations = Violations("V5")
        self._settle_ns = round(promise.settle_s * NS_PER_S)
        self._published = published
        self._homes = homes
        self._places: dict[str, dict[str, Entry]] = {}  # id → position → first seen there
        self._lost: dict[str, int] = {}  # ledger → when its writer lost it
        self._acked: dict[Seen, Entry] = {}
        self._last: dict[tuple[str, str, int], Entry] = {}
        self._youngest_ns: dict[tuple[str, str, str], int] = {}  # process, subscription, ledger → newest publish seen
        self._fault_ns = -(1 << 62)

    def see(self, entry: Entry) -> None:
        """Count places and deliveries."""
        if entry.operation in ("fault", "heal"):
            self._fault_ns = entry.time_ns
        elif entry.operation == "lose" and writer_of(entry.position).endswith(f"/{entry.target}"):
            self._lost.setdefault(entry.position, self._fault_ns)
        elif entry.kind != "ok":
            return
        elif entry.operation == "ack":
            self._acked.setdefault((entry.subscription, entry.position), entry)
        elif entry.operation == "deliver":
            self._place(entry)
            if not entry.live:
                self._delivered(entry)
        elif entry.operation in ("publish", "store"):
            self._place(entry)

    def _place(self, entry: Entry) -> None:
        """An idempotent producer's copy that was stored or acknowledged may be void; one that is delivered is not."""
        publication = self._published.by_id.get(entry.id)
        if publication is not None and (entry.operation == "deliver" or not publication.invoked.idempotent):
            self._places.setdefault(entry.id, {}).setdefault(entry.position, entry)

    def _delivered(self, entry: Entry) -> None:
        seen = (entry.subscription, entry.position)
        number = (*seen, entry.delivery)
        acked, last = self._acked.get(seen), self._last.get(number)
        way = (entry.process, entry.subscription, entry.ledger)
        if acked is not None and acked.time_ns < self._youngest_ns.get(way, -1) and self._sure(acked, entry):
            self.violations.add(
                f"{entry.subscription} got {entry.position} again, as delivery {entry.delivery}, after its ack was "
                "durable", acked, entry,
            )  # fmt: skip
        if last is not None and self._fault_ns + self._settle_ns < last.time_ns and self._sure(last, entry):
            self.violations.add(
                f"{entry.subscription} got {entry.position} twice as delivery {entry.delivery}", last, entry
            )
        self._last[number] = entry
        publication = self._published.by_id.get(entry.id)
        if publication is not None:
            self._youngest_ns[way] = max(self._youngest_ns.get(way, -1), publication.invoked.time_ns)

    def _sure(self, before: Entry, after: Entry) -> bool:
        return not self._homes.unsure(after.subscription, before.time_ns, after.time_ns)

    def end(self) -> None:
        """Compare how often an event was tried with how often it is there, by owner."""
        for id, places in self._places.items():
            publication = self._published.by_id[id]
            owned: dict[str, list[Entry]] = {}
            for entry in places.values():
                owned.setdefault("" if publication.invoked.idempotent else self._owner(entry.ledger), []).append(entry)
            for entries in owned.values():
                if len(entries) > len(publication.tries):
                    at = ", ".join(entry.position for entry in entries)
                    text = f"{id} was tried {len(publication.tries)} × and is at {at}"
                    self.violations.add(text, publication.invoked, *entries)

    def _owner(self, ledger: str) -> str:
        """An instance that lost its disk is another owner, also under the same name."""
        return (
            f"{writer_of(ledger)} before its loss {self._lost[ledger]}" if ledger in self._lost else writer_of(ledger)
        )
