"""Expiry: what groups lose when a ledger is dropped before they have settled it, and the account of it (rule 17)."""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.deliveries import Deliveries
from fedbus.broker.effects import Surveyed
from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.settlement import Settlement
from fedbus.broker.state import GroupExpired, GroupLoss
from fedbus.ranges import Range, RangeSet
from fedbus.topic import may_overlap

RECENT = 16  # expiries of one group that are told one by one


def unsettled_in(
    ledger: Surveyed, end: int, spec: GroupSpec, cursor: Cursor, settlement: Settlement, deliveries: Deliveries
) -> tuple[list[p.Settled], int]:
    """What a group has not settled of a ledger that ends at ``end``: offsets by origin, and how many events at most.

    What was dispatched is known exactly; of what was not scanned yet only the topics are.
    """
    name = ledger.ledger
    dispatched: dict[str, RangeSet] = {}
    for portion in deliveries:
        if portion.ledger == name:
            ranges = dispatched.setdefault(portion.origin_ledger, RangeSet())
            for low, high in deliveries.unsettled(portion):
                ranges.add(low, high)
    events = sum(ranges.total() for ranges in dispatched.values())
    wanted = ledger.newest_ms >= spec.start.time_ms and (
        ledger.topics is None or any(may_overlap(topic, each) for topic in ledger.topics for each in spec.filters)
    )
    if wanted and name in cursor.positions:
        own = dispatched.setdefault(name, RangeSet())
        for low, high in _unscanned(cursor.positions[name], end, name, settlement):
            events += own.add(low, high)
    return [p.Settled(origin, list(ranges)) for origin, ranges in dispatched.items() if ranges], events


def _unscanned(position: int, end: int, ledger: str, settlement: Settlement) -> list[Range]:
    return settlement.unsettled(ledger, [(position, end)]) if position < end else []


class Losses:
    """All that the groups of an instance have lost. A ledger expires once, so the same expiry twice counts once."""

    def __init__(self) -> None:
        self._older: dict[str, int] = {}  # events of expiries that are no longer told one by one
        self._recent: dict[str, dict[str, GroupExpired]] = {}  # group → ledger

    def note(self, expired: Iterable[GroupExpired]) -> None:
        """Count these."""
        for each in expired:
            recent = self._recent.setdefault(each.group, {})
            recent[each.ledger] = each
            if len(recent) > RECENT:
                oldest = recent.pop(next(iter(recent)))
                self._older[each.group] = self._older.get(each.group, 0) + oldest.events

    def take_back(self, ledger: str) -> None:
        """The expiry of this ledger was never stored."""
        for recent in self._recent.values():
            recent.pop(ledger, None)

    def forget(self, groups: Iterable[str]) -> None:
        """Keep the account of these groups only: the others are gone."""
        kept = set(groups)
        for account in (self._older, self._recent):
            for name in set(account) - kept:
                del account[name]

    def restore(self, state: Iterable[GroupLoss]) -> None:
        """Merge a snapshot's account in."""
        for loss in state:
            older = loss.events - sum(each.events for each in loss.recent)
            self._older[loss.group] = max(older, self._older.get(loss.group, 0))
            self.note(loss.recent)

    def state(self) -> list[GroupLoss]:
        """The whole account, by group."""
        return [
            GroupLoss(
                group, self._older.get(group, 0) + sum(each.events for each in recent.values()), list(recent.values())
            )
            for group, recent in self._recent.items()
            if recent
        ]
