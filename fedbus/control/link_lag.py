"""Link lag: how far a region is behind the regions it pulls from, in events and in time (pure).

Events: what the newest summary says there is, less what was scanned. Time: when it is little, what the events that came
last say of their age; else since when the oldest missing end was known, by the receiver's clock alone, so that clocks
need not agree; and while the origin is not heard, since when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from fedbus.control.summary import LinkLag, RegionSummary

ENDS_KEPT = 1024  # of one ledger; beyond it every second one is dropped
STALE_MS = 2_000  # summaries come several times a second: older ones, and older ends, say that something is stuck
NS_PER_MS = 1_000_000


class LagMeter:
    """Of one region."""

    def __init__(self) -> None:
        self._ends: dict[str, deque[tuple[int, int]]] = {}  # origin ledger → (when first heard, end)
        self._heard: dict[str, tuple[int, int]] = {}  # region → (its time in the summary, when that was heard)

    def measure(
        self,
        peers: Iterable[RegionSummary],
        reached: Mapping[str, int],
        topics: Iterable[Mapping[str, Mapping[str, int]]],
        now_ns: int,
    ) -> dict[str, LinkLag]:
        """By origin region. ``reached``: of the ledgers that are to be pulled, up to where that is done.

        ``topics``: per instance, by origin region and topic, how old (ms) what came last was.
        """
        ages = list(topics)
        lags: dict[str, LinkLag] = {}
        for peer in peers:
            pulled = {each.ledger: each.end for each in peer.ledgers if each.ledger in reached}
            by_topic: dict[str, int] = {}
            for each in ages:
                for topic, age_ms in each.get(peer.region, {}).items():
                    by_topic[topic] = max(age_ms, by_topic.get(topic, 0))
            missing = [self._missing_ms(name, end, reached[name], now_ns) for name, end in pulled.items()]
            stuck_ms = max([self._silent_ms(peer, now_ns), *missing])
            if pulled or by_topic:
                behind = sum(max(0, end - reached[name]) for name, end in pulled.items())
                lag_ms = stuck_ms if stuck_ms > STALE_MS else max(by_topic.values(), default=0)
                lags[peer.region] = LinkLag(behind, lag_ms, by_topic)
        return lags

    def _missing_ms(self, ledger: str, end: int, reached: int, now_ns: int) -> int:
        """How long it has been known that there is something beyond what was reached."""
        ends = self._ends.setdefault(ledger, deque())
        if not ends or end > ends[-1][1]:
            ends.append((now_ns, end))
        while ends and ends[0][1] <= reached:
            ends.popleft()
        if len(ends) > ENDS_KEPT:
            self._ends[ledger] = ends = deque(ends[place] for place in range(0, len(ends), 2))
        return (now_ns - ends[0][0]) // NS_PER_MS if ends else 0

    def _silent_ms(self, peer: RegionSummary, now_ns: int) -> int:
        """How long ago a newer summary came."""
        said_ns, heard_ns = self._heard.get(peer.region, (0, 0))
        if peer.at_ns != said_ns or not heard_ns:
            self._heard[peer.region] = peer.at_ns, now_ns
            return 0
        return (now_ns - heard_ns) // NS_PER_MS


def recovery_point_ms(region: str, peers: Iterable[RegionSummary]) -> int | None:
    """The worst lag of a region's events over those that pull them: what its loss could cost; ``None``: nobody does."""
    return max((peer.lags[region].lag_ms for peer in peers if region in peer.lags), default=None)
