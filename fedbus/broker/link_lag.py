"""How old events were when they came over links, by origin region and topic: the newest word of each, for a while."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest

TOPICS_KEPT = 4096  # per origin region
TOPICS_TOLD = 32  # per origin region, the oldest events first
RECENT_NS = 10_000_000_000  # what came earlier says nothing of now


class LinkLags:
    """Of one instance; ``now_ns`` is told from time to time."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._came: dict[str, dict[str, tuple[int, int]]] = {}  # region → topic → (age in ms, when)

    def came(self, region: str, topics: Iterable[str], age_ms: int, now_ns: int) -> None:
        """Events of these topics came, the newest of them so old."""
        known = self._came.setdefault(region, {})
        if len(known) >= TOPICS_KEPT:
            known.clear()
        word = (max(0, age_ms), now_ns)
        for topic in topics:
            known[topic] = word

    def told(self) -> dict[str, dict[str, int]]:
        """By region and topic, in ms: the worst of what came lately."""
        return {
            region: dict(nlargest(TOPICS_TOLD, _recent(known, self.now_ns - RECENT_NS), key=lambda each: each[1]))
            for region, known in self._came.items()
        }


def _recent(known: dict[str, tuple[int, int]], since_ns: int) -> list[tuple[str, int]]:
    return [(topic, age_ms) for topic, (age_ms, at_ns) in known.items() if at_ns >= since_ns]
