"""Hearing: what a Router is told of instances while it goes on deciding: measurements, failures, silence.

What is said of an instance that no table names any more is passed over.
"""

from __future__ import annotations

from fedbus.routing.area import Area
from fedbus.routing.standing import Standing


class Hearing:
    """The standings of all instances and the areas they are in. Times are monotonic nanoseconds."""

    def __init__(self) -> None:
        self._areas: dict[str, Area] = {}
        self._standings: dict[str, Standing] = {}

    def standing(self, instance: str) -> Standing | None:
        """What is known of an instance of that name: region, route, measured latencies, in flight."""
        return self._standings.get(instance)

    def observe(self, instance: str, rtt_ms: float, now_ns: int, queue_share: float = 0.0) -> None:
        """A heartbeat came back after ``rtt_ms``; the instance's queue is that full."""
        standing = self._standings.get(instance)
        if standing is not None:
            standing.trip.observe(rtt_ms, now_ns)
            standing.queue = queue_share
            standing.weigh()

    def stored(self, instance: str, took_ms: float, now_ns: int) -> None:
        """A batch became durable there ``took_ms`` after it was sent."""
        standing = self._standings.get(instance)
        if standing is not None:
            self._areas[standing.region].stored(standing, took_ms, now_ns)

    def waiting(self, instance: str, waited_ms: float, now_ns: int) -> None:
        """The oldest batch in flight there has waited so long for its answer."""
        standing = self._standings.get(instance)
        if standing is not None and waited_ms > standing.store.ms:
            standing.store.at_least(waited_ms, now_ns)
            standing.weigh()

    def failed(self, instance: str, now_ns: int) -> None:
        """It refused a batch for a reason of its own, did not answer one, or broke the session."""
        standing = self._standings.get(instance)
        if standing is not None:
            self._areas[standing.region].failed(standing, now_ns)

    def sent(self, instance: str) -> None:
        """A batch is on its way there."""
        standing = self._standings.get(instance)
        if standing is not None:
            standing.in_flight += 1

    def answered(self, instance: str) -> None:
        """A batch on its way there was answered, or is no longer waited for."""
        standing = self._standings.get(instance)
        if standing is not None:
            standing.answered()

    def suspect(self, instance: str) -> None:
        """It is silent: do not pick it."""
        self._mark(instance, suspect=True)

    def cleared(self, instance: str) -> None:
        """It answers again."""
        self._mark(instance, suspect=False)

    def _mark(self, instance: str, *, suspect: bool) -> None:
        standing = self._standings.get(instance)
        if standing is not None and standing.suspect is not suspect:
            standing.suspect = suspect
            self._areas[standing.region].refresh()
