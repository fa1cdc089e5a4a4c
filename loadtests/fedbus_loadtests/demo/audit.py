"""The audit: what was published, what of it was acknowledged, and who received it how often. Pure; times are passed in.

An event is lost if its publisher was told that it is durable and the group that wants it never gets it. An event whose
fate the publisher does not know may arrive or not; it is neither acknowledged nor lost.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import msgspec

NS_PER_MS = 1e6


class GroupCount(msgspec.Struct, frozen=True):
    """One group's account: acknowledged events that it wants, those of them it got, deliveries beyond the first."""

    expected: int
    delivered: int
    duplicates: int

    @property
    def lost(self) -> int:
        """Acknowledged, and not delivered (yet)."""
        return self.expected - self.delivered


class Percentiles(msgspec.Struct, frozen=True):
    """Of a latency, in ms."""

    p50_ms: float
    p99_ms: float
    worst_ms: float


class _Group:
    """The ids of one group. Ids are integers here: the events' ids are their hexadecimal text."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.delivered: set[int] = set()
        self.duplicates = 0


class Audit:
    """Accounts by group; every event belongs to exactly one group and to the region (``site``) it was published in."""

    def __init__(self, groups: Iterable[str]) -> None:
        self._groups = {name: _Group() for name in groups}
        self._sent: dict[int, tuple[str, int]] = {}
        self._acks = {"": (array("q"), array("q"))}
        self._delivery_ms = array("d")
        self.published = 0
        self.acknowledged = 0
        self.refused = 0
        self.first_ack_ns: int | None = None

    def sent(self, event: int, group: str, now_ns: int) -> None:
        """An event is on its way."""
        self._sent[event] = group, now_ns
        self.published += 1

    def acked(self, event: int, site: str, now_ns: int) -> None:
        """Its publisher knows that it is durable; once per event."""
        group, sent_ns = self._sent[event]
        self._groups[group].acknowledged.add(event)
        self.acknowledged += 1
        if self.first_ack_ns is None:
            self.first_ack_ns = now_ns
        sent, acked = self._acks.setdefault(site, (array("q"), array("q")))
        sent.append(sent_ns)
        acked.append(now_ns)

    def failed(self, event: int) -> None:
        """Its publisher gave up: it may be durable or not."""
        self.refused += 1

    def delivered(self, group: str, event: int, now_ns: int) -> None:
        """A group received it."""
        account = self._groups[group]
        if event in account.delivered:
            account.duplicates += 1
            return
        account.delivered.add(event)
        if event in self._sent:
            self._delivery_ms.append((now_ns - self._sent[event][1]) / NS_PER_MS)

    def groups(self) -> dict[str, GroupCount]:
        """The accounts as they stand."""
        return {
            name: GroupCount(len(g.acknowledged), len(g.acknowledged & g.delivered), g.duplicates)
            for name, g in self._groups.items()
        }

    @property
    def delivered_total(self) -> int:
        """Events that arrived, over all groups."""
        return sum(len(group.delivered) for group in self._groups.values())

    @property
    def missing(self) -> int:
        """Acknowledged events that have not arrived: under way while the replay runs, lost at its end."""
        return sum(len(group.acknowledged - group.delivered) for group in self._groups.values())

    @property
    def duplicates(self) -> int:
        """Deliveries beyond the first."""
        return sum(group.duplicates for group in self._groups.values())

    def publish_latency(self) -> Percentiles | None:
        """From publishing to the acknowledgement."""
        waits = (a - s for sent, acked in self._acks.values() for s, a in zip(sent, acked, strict=True))
        return percentiles([wait / NS_PER_MS for wait in waits])

    def delivery_latency(self) -> Percentiles | None:
        """From publishing to the first delivery."""
        return percentiles(self._delivery_ms)

    def longest_wait_ms(self, site: str, from_ns: int, to_ns: int) -> float | None:
        """The longest that an event published in a region in that time waited for its acknowledgement."""
        sent, acked = self._acks.get(site, self._acks[""])
        waits = [a - s for s, a in zip(sent, acked, strict=True) if from_ns <= s < to_ns]
        return max(waits) / NS_PER_MS if waits else None

    def first_ack_after_ms(self, site: str, at_ns: int) -> float | None:
        """How long after a moment the next event published in a region was acknowledged."""
        sent, acked = self._acks.get(site, self._acks[""])
        later = [a for s, a in zip(sent, acked, strict=True) if s >= at_ns]
        return (min(later) - at_ns) / NS_PER_MS if later else None


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """Median, 99 % and maximum by nearest rank; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99))
    return Percentiles(round(p50, 2), round(p99, 2), round(ordered[-1], 2))
