"""V10: in good time after a healing publishing succeeds again, and in the end copies are equal and whole."""

from __future__ import annotations

from fedbus_loadtests.chaos.entry import REGION_FAULTS, Entry, region_of
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.published import Published
from fedbus_loadtests.chaos.violation import Violations

NS_PER_S = 1_000_000_000


class Healed:
    """That backlogs drain shows in V1: the run ends some time after its last healing."""

    def __init__(self, promise: Promise, published: Published) -> None:
        self.violations = Violations("V10")
        self._limit_ns = round(promise.heal_s * NS_PER_S)
        self._published = published
        self._healed: list[Entry] = []  # and no success since
        self._holds: dict[tuple[str, str], dict[int, str]] = {}  # holder and ledger → offset → id
        self._copies: list[Entry] = []

    def see(self, entry: Entry) -> None:
        """Healings wait for a success that began after them."""
        if entry.operation == "heal":
            self._healed.append(entry)
        elif entry.operation == "publish" and entry.kind == "ok" and self._healed:
            began_ns = self._published.by_id[entry.id].tries[entry.process].time_ns
            for heal in [heal for heal in self._healed if heal.time_ns <= began_ns and _shows(entry, heal)]:
                self._healed.remove(heal)
                if entry.time_ns - heal.time_ns > self._limit_ns:
                    late_s = (entry.time_ns - heal.time_ns) / NS_PER_S
                    self.violations.add(f"publishing succeeded only {late_s:.1f} s after a healing", heal, entry)
        elif entry.operation == "store":
            self._holds.setdefault((entry.target, entry.ledger), {})[entry.offset] = entry.id
        elif entry.operation == "copies":
            self._copies.append(entry)

    def end(self) -> None:
        """No success at all, and copies that differ."""
        for heal in self._healed:
            self.violations.add(f"nothing was published any more after {heal.target} was healed", heal)
        for copies in self._copies:
            held = {holder: self._holds.get((holder, copies.position), {}) for holder in copies.target.split()}
            most = max(held, key=lambda holder: len(held[holder]))
            for holder, events in held.items():
                differing = held[most].items() ^ events.items()
                if differing:
                    offset, id = min(differing)
                    self.violations.add(
                        f"the copies of {copies.position} at {most} ({len(held[most])} events) and {holder} "
                        f"({len(events)}) differ, first at offset {offset} ({id})", copies,
                    )  # fmt: skip


def _shows(success: Entry, heal: Entry) -> bool:
    """A region is healed when publishing succeeds there."""
    return heal.fault not in REGION_FAULTS or region_of(success.position) in heal.target.split()
