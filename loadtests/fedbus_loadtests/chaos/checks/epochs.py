"""V7: nothing written under an epoch is accepted once a later one has been seen, or beyond its ledger's closed end."""

from __future__ import annotations

from fedbus_loadtests.chaos.checks.forward import Heights
from fedbus_loadtests.chaos.entry import Entry, epoch_of, writer_of
from fedbus_loadtests.chaos.published import Published
from fedbus_loadtests.chaos.violation import Violations


class NewestEpoch:
    """Zombies: a writer that was succeeded acknowledges nothing, and nothing of it beyond the end appears."""

    def __init__(self, published: Published) -> None:
        self.violations = Violations("V7")
        self._published = published
        self._heights: dict[str, Heights] = {}  # per writer, of epochs
        self._highest: dict[str, Entry] = {}  # per ledger, of what was acknowledged or delivered of it
        self._closed: dict[str, Entry] = {}

    def see(self, entry: Entry) -> None:
        """Compare epochs in the order in which they can be told apart."""
        if entry.operation == "close":
            self._closed[entry.position] = entry
        if entry.kind != "ok" or entry.operation not in ("publish", "deliver"):
            return
        highest = self._highest.get(entry.ledger)
        if highest is None or highest.offset < entry.offset:
            self._highest[entry.ledger] = entry
        if entry.operation == "publish" and not entry.duplicate:
            self._compare(entry)

    def _compare(self, entry: Entry) -> None:
        heights = self._heights.setdefault(writer_of(entry.ledger), Heights())
        invoked = self._published.by_id[entry.id].tries[entry.process]
        before, top, epoch = heights.before(invoked.time_ns), heights.top, epoch_of(entry.ledger)
        if before is not None and epoch_of(before.ledger) > epoch:
            self.violations.add(
                f"{entry.id} was acknowledged in {entry.ledger}, but {before.ledger} had begun before it was published",
                before, invoked, entry,
            )  # fmt: skip
        heights.add(entry, higher=top is None or epoch_of(top.ledger) < epoch)

    def end(self) -> None:
        """Nothing may lie beyond a closed end."""
        for ledger, closed in self._closed.items():
            highest = self._highest.get(ledger)
            if highest is not None and highest.offset >= closed.end:
                self.violations.add(
                    f"{ledger} was closed at {closed.end}, and {highest.position} exists", closed, highest
                )
