"""V12: "failed" means absent. A time-out means unknown, and promises nothing."""

from __future__ import annotations

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.published import Published
from fedbus_loadtests.chaos.violation import Violations


class AbsentAfterFail:
    """An event of which every try was refused for good is nowhere."""

    def __init__(self, published: Published) -> None:
        self.violations = Violations("V12")
        self._published = published
        self._seen: dict[str, Entry] = {}

    def see(self, entry: Entry) -> None:
        """Remember what exists."""
        if entry.operation in ("deliver", "store", "forward", "dead"):
            self._seen.setdefault(entry.id, entry)

    def end(self) -> None:
        """What exists and was said not to."""
        for id, seen in self._seen.items():
            publication = self._published.by_id.get(id)
            if publication is not None and publication.surely_absent:
                failed = publication.failed[0]
                self.violations.add(f"{id} failed ({failed.detail}) and exists at {seen.position}", failed, seen)
