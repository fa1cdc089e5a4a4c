"""V3: a position means one event, in every acknowledgement, in every subscription and on every copy, for ever."""

from __future__ import annotations

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.violation import Violations


class OneEventPerPosition:
    """Remembers the first that was seen at each position."""

    def __init__(self) -> None:
        self.violations = Violations("V3")
        self._first: dict[str, Entry] = {}

    def see(self, entry: Entry) -> None:
        """Whatever says what is at a position must say the same."""
        if entry.kind == "ok" and entry.operation in ("publish", "deliver", "store", "forward"):
            first = self._first.setdefault(entry.position, entry)
            if first.id != entry.id:
                self.violations.add(f"{entry.position} is {first.id} and {entry.id}", first, entry)

    def end(self) -> None:
        """Nothing is left to do."""
