"""The standing of an instance: everything one Router knows of it, and the one score made of that.

    score = latency / (1 - queue) * crowd

in milliseconds, the smaller the better. *latency*: the larger of the heartbeats' and the publishes' estimate (distance
until measured, never below a floor under which differences are noise); *queue*: share of its bound that the instance
says its queue is full; *crowd*: batches in flight per weight, over how many were usually in flight when the answers
came that the latency was measured by: what is usual is in the latency already.
"""

from __future__ import annotations

from fedbus.routing.distance import NEAR_MS
from fedbus.routing.ejection import IN, PROBING, Ejection
from fedbus.routing.latency import Latency
from fedbus.routing.table import InstanceRoute

FULLEST = 0.95  # of a queue: beyond that the share says no more
USUAL = 0.1  # weight of the newest number of batches in flight in the usual one
LEAST_WEIGHT = 1e-6


class Standing:
    """What is known of one instance. ``trip`` is of heartbeats, ``store`` of publishes (both in ms)."""

    __slots__ = (
        "base_ms",
        "doubtful",
        "ejection",
        "in_flight",
        "per_batch",
        "queue",
        "region",
        "route",
        "store",
        "suspect",
        "trip",
        "usual",
    )

    def __init__(self, region: str, route: InstanceRoute) -> None:
        self.region = region
        self.route = route
        self.trip = Latency(NEAR_MS)
        self.store = Latency(0.0)
        self.queue = 0.0
        self.in_flight = 0
        self.usual = 1.0
        self.suspect = False
        self.ejection = Ejection()
        self.per_batch = 1.0
        self.base_ms = NEAR_MS
        self.doubtful = False
        self.follow(region, route)

    def follow(self, region: str, route: InstanceRoute) -> None:
        """A new table says this of it."""
        self.region, self.route = region, route
        self.per_batch = 1.0 / max(route.weight, LEAST_WEIGHT)

    @property
    def measured(self) -> bool:
        """Whether anything was ever measured."""
        return self.trip.at_ns is not None or self.store.at_ns is not None

    @property
    def resting_on(self) -> Latency:
        """The worse of what heartbeats and publishes tell. Heartbeats come by themselves, publishes do not."""
        return self.store if self.store.trusted and self.store.ms > self.trip.ms else self.trip

    @property
    def latency_ms(self) -> float:
        """What a round trip takes, as far as known."""
        return self.resting_on.ms

    @property
    def takes_events(self) -> bool:
        """Whether events may be sent there, ejected or not."""
        return self.route.takes_events and self.route.weight > 0 and not self.suspect

    @property
    def candidate(self) -> bool:
        """Whether it takes its share of keyless events."""
        return self.takes_events and self.ejection.state == IN

    @property
    def probing(self) -> bool:
        """Whether it takes probes only."""
        return self.takes_events and self.ejection.state == PROBING

    @property
    def score(self) -> float:
        """Predicted latency of one more batch, in milliseconds."""
        crowd = (1.0 + self.in_flight * self.per_batch) / self.usual
        return self.base_ms * crowd if crowd > 1.0 else self.base_ms

    def weigh(self) -> None:
        """Reckon ``base_ms``, the part of the score that changes only with a measurement.

        ``doubtful``: it rests on answers to publishes, and there are no more of them where nobody publishes.
        """
        self.base_ms = max(self.latency_ms, NEAR_MS) / (1.0 - min(self.queue, FULLEST))
        self.doubtful = self.store.trusted and self.store.ms > max(self.trip.ms, NEAR_MS)

    def forget(self) -> None:
        """What was measured is not to be trusted: the next measurement counts as the first."""
        self.store.forget()
        self.trip.forget()
        self.ejection.beats = 0
        self.weigh()

    def answered(self) -> None:
        """A batch is no longer in flight."""
        if self.in_flight:
            self.usual += USUAL * (1.0 + self.in_flight * self.per_batch - self.usual)
            self.in_flight -= 1
