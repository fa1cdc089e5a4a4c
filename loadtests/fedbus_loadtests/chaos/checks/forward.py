"""V6: the confirmed position of a ledger, and a stream's cursor, never go back for any observer."""

from __future__ import annotations

from bisect import bisect_left

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.published import Published
from fedbus_loadtests.chaos.violation import Violations


class Heights:
    """The highest acknowledged so far, by time."""

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._highest: list[Entry] = []

    def add(self, entry: Entry, *, higher: bool) -> None:
        """An acknowledgement; it counts if it is ``higher`` than :attr:`top`."""
        if higher:
            self._times_ns.append(entry.time_ns)
            self._highest.append(entry)

    @property
    def top(self) -> Entry | None:
        """The highest of all."""
        return self._highest[-1] if self._highest else None

    def before(self, time_ns: int) -> Entry | None:
        """The highest that had been acknowledged when an operation began at ``time_ns``."""
        place = bisect_left(self._times_ns, time_ns)
        return self._highest[place - 1] if place else None


class Forward:
    """Whatever is published after an acknowledgement was seen, by anybody, lies behind it in the same ledger."""

    def __init__(self, published: Published) -> None:
        self.violations = Violations("V6")
        self._published = published
        self._heights: dict[str, Heights] = {}
        self._streams: dict[tuple[str, str, str], Entry] = {}

    def see(self, entry: Entry) -> None:
        """Acknowledgements of new events, and deliveries of live streams."""
        if entry.kind != "ok":
            return
        if entry.operation == "publish" and not entry.duplicate:
            heights = self._heights.setdefault(entry.ledger, Heights())
            invoked = self._published.by_id[entry.id].tries[entry.process]
            before = heights.before(invoked.time_ns)
            if before is not None and before.offset >= entry.offset:
                self.violations.add(
                    f"{entry.id} was stored at {entry.position} although {before.position} had been acknowledged "
                    "before it was published", before, invoked, entry,
                )  # fmt: skip
            heights.add(entry, higher=heights.top is None or heights.top.offset < entry.offset)
        elif entry.operation == "deliver" and entry.live:
            stream = (entry.process, entry.subscription, entry.ledger)
            last = self._streams.get(stream)
            if last is not None and last.offset >= entry.offset:
                self.violations.add(f"the stream {entry.subscription} went back", last, entry)
            self._streams[stream] = entry

    def end(self) -> None:
        """Nothing is left to do."""
