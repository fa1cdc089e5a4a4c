"""V2: nothing is delivered (or stored) that was not published, down to the checksum of its data."""

from __future__ import annotations

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.published import Published
from fedbus_loadtests.chaos.violation import Violations


class PublishedContent:
    """At the moment it is seen, an event must have been invoked, by this id and with this content."""

    def __init__(self, published: Published) -> None:
        self.violations = Violations("V2")
        self._published = published

    def see(self, entry: Entry) -> None:
        """Compare what came out with what went in."""
        if entry.operation not in ("deliver", "store", "forward", "dead"):
            return
        publication = self._published.by_id.get(entry.id)
        where = entry.subscription or entry.target
        if publication is None:
            self.violations.add(f"{where} has {entry.id!r} at {entry.position}, which nobody had published", entry)
            return
        invoked = publication.invoked
        for name in ("crc", "key") if entry.operation == "dead" else ("crc", "key", "topic"):
            went_in, came_out = getattr(invoked, name), getattr(entry, name)
            if went_in != came_out:
                self.violations.add(
                    f"{where} has {entry.id} with {name} {came_out!r}, published with {went_in!r}", invoked, entry
                )

    def end(self) -> None:
        """Nothing is left to do."""
