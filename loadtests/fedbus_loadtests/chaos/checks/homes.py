"""V5 of a group that changes its home: what was acknowledged and shared before does not come again.

Two homes may deliver the same while neither hears of the other, and what was acknowledged so shortly before that it was
not shared yet comes again: rule 13 promises no less redelivery, and this no more.
"""

from __future__ import annotations

import msgspec

from fedbus_loadtests.chaos.entry import REGION_FAULTS, Entry
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.violation import Violations

NS_PER_S = 1_000_000_000
NEVER_NS = 1 << 62


class Unsure(msgspec.Struct):
    """A time in which a home may not have heard what another one knew. ``regions``: those it struck, or the group."""

    start_ns: int
    regions: frozenset[str] = frozenset()
    subscription: str = ""
    end_ns: int = NEVER_NS
    fault: str = ""

    def touches(self, since_ns: int, to_ns: int) -> bool:
        """Whether any of it lies in this span."""
        return self.start_ns <= to_ns and since_ns <= self.end_ns


class Homes:
    """Where groups are at home, and when that was unsure; shared by the checks that need to know."""

    def __init__(self, promise: Promise) -> None:
        self.violations = Violations("V5")
        self.share_ns = round(promise.share_s * NS_PER_S)
        self.meet_ns = max(self.share_ns, round(promise.meet_s * NS_PER_S))
        self._of: dict[str, set[str]] = {}  # group → every home it has had
        self._unsure: list[Unsure] = []

    def see(self, entry: Entry) -> None:
        """Homes, moves, and faults of regions."""
        if entry.operation == "subscribe" and entry.target:
            self._of.setdefault(entry.subscription, {entry.target})
        elif entry.operation == "move":
            self._move(entry)
        elif entry.operation == "fault" and entry.fault in REGION_FAULTS:
            self._unsure.append(Unsure(entry.time_ns, frozenset(entry.target.split()), fault=entry.fault))
        elif entry.operation == "heal" and entry.fault in REGION_FAULTS:
            for each in self._unsure:
                if each.fault == entry.fault and each.end_ns == NEVER_NS and each.regions & {*entry.target.split()}:
                    each.end_ns = entry.time_ns

    def end(self) -> None:
        """It finds nothing wrong itself."""

    def _move(self, entry: Entry) -> None:
        self._of.setdefault(entry.subscription, set()).add(entry.target)
        begun = [e for e in self._unsure if e.subscription == entry.subscription and e.end_ns == NEVER_NS]
        if entry.kind == "invoke" or not begun:
            begun = [Unsure(entry.time_ns, subscription=entry.subscription)]
            self._unsure += begun
        if entry.kind == "ok":
            begun[-1].end_ns = entry.time_ns

    def of(self, subscription: str) -> set[str]:
        """Every home this group has had; empty if that is not recorded."""
        return self._of.get(subscription, set())

    def unsure(self, subscription: str, since_ns: int, to_ns: int) -> list[Unsure]:
        """The times that concern this group and touch this span, or what is shared then."""
        homes = self.of(subscription)
        return [
            each
            for each in self._unsure
            if (each.subscription == subscription or each.regions & homes)
            and each.touches(since_ns - self.meet_ns, to_ns)
        ]


class Shared:
    """Compares each delivery with the durable acknowledgement before it, if a home was struck or left in between."""

    def __init__(self, homes: Homes) -> None:
        self.violations = Violations("V5")
        self._homes = homes
        self._acked: dict[tuple[str, str], Entry] = {}

    def see(self, entry: Entry) -> None:
        """Acknowledgements and deliveries of groups whose home is known."""
        if entry.kind != "ok" or not self._homes.of(entry.subscription):
            return
        if entry.operation == "ack":
            self._acked.setdefault((entry.subscription, entry.position), entry)
        elif entry.operation == "deliver":
            acked = self._acked.get((entry.subscription, entry.position))
            if acked is not None:
                self._compare(acked, entry)

    def _compare(self, acked: Entry, again: Entry) -> None:
        share_ns, meet_ns = self._homes.share_ns, self._homes.meet_ns
        between = self._homes.unsure(again.subscription, acked.time_ns, again.time_ns)
        if between and not any(
            each.start_ns - share_ns <= acked.time_ns <= each.end_ns and again.time_ns <= each.end_ns + meet_ns
            for each in between
        ):
            ago_s = (again.time_ns - acked.time_ns) / NS_PER_S
            self.violations.add(
                f"{again.subscription} got {again.position} again {ago_s:.1f} s after its ack was durable and shared",
                acked, again,
            )  # fmt: skip

    def end(self) -> None:
        """Nothing is left to do."""
