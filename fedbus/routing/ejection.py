"""Ejection: an instance far slower than its region, or failing again and again, gets no keyless events for a while.

After Envoy's outlier detection: the time out grows with every ejection in a row, and only a bounded share of a region
is ever out. Unlike there, an instance comes back on probation: one batch per beat until :data:`PROBES` in a row were
answered as quickly as the others', so that one which is still slow costs a batch, not a share of the traffic. Keyed
events are not moved: order per key is worth more (rule 11).

    in ──outlier for BEATS, or FAILURES in a row──▶ out ──time is over──▶ probing ──PROBES good──▶ in
    │                                                ▲                     ▲  │
    │                                                └──slow, or a failure─┼──┘
    └──outlier by one answer, and none after it────────────────────────────┘
"""

from __future__ import annotations

from typing import Literal

IN: Literal["in"] = "in"
OUT: Literal["out"] = "out"
PROBING: Literal["probing"] = "probing"

FACTOR, MARGIN_MS = 3.0, 50.0  # an outlier is slower than both so many times the median, and so much more than it
BEATS = 3  # looks in a row at which it was one: a hiccup ejects nobody
FAILURES = 5  # in a row
PROBES = 3
FIRST_NS, LONGEST_NS = 2_000_000_000, 8_000_000_000  # time out, doubled every time
FORGIVE_NS = 30_000_000_000  # in good standing for so long: one ejection is forgotten
SHARE = 3  # one of so many instances of a region may be out (at least one, unless it is the only one)


def limit_ms(typical_ms: float) -> float:
    """The latency beyond which an instance is an outlier among others that usually take so long."""
    return max(FACTOR * typical_ms, typical_ms + MARGIN_MS)


def most_out(instances: int) -> int:
    """How many of so many instances may be out at a time."""
    return max(1, instances // SHARE) if instances > 1 else 0


class Ejection:
    """Whether an instance is out, since when and why. Times are monotonic nanoseconds."""

    __slots__ = ("beats", "failures", "good", "may_probe", "reason", "since_ns", "state", "times", "until_ns")

    def __init__(self) -> None:
        self.state: Literal["in", "out", "probing"] = IN
        self.reason = ""
        self.since_ns = 0
        self.until_ns = 0
        self.times = 0  # in a row
        self.beats = 0
        self.failures = 0
        self.good = 0
        self.may_probe = False

    @property
    def due(self) -> bool:
        """Whether it is to be ejected, if the region can spare it."""
        return self.beats >= BEATS or self.failures >= FAILURES

    def look(self, latency_ms: float, newest_ms: float | None, limit: float, now_ns: int) -> bool:
        """One beat of an instance that is in, as an outlier or not; whether only a probe can tell.

        ``newest_ms``: its newest answer since the last look, if there was one: no evidence counts twice.
        """
        if latency_ms <= limit:
            self.beats = 0
        elif newest_ms is None:
            return True
        elif newest_ms > limit:
            self.beats += 1
        if self.times and not self.beats and now_ns - self.since_ns >= FORGIVE_NS:
            self.times -= 1
            self.since_ns = now_ns
        return False

    def eject(self, reason: str, now_ns: int) -> None:
        """It is out, longer than the last time."""
        self.times += 1
        self.state, self.reason, self.since_ns = OUT, reason, now_ns
        self.until_ns = now_ns + min(FIRST_NS << min(self.times - 1, 10), LONGEST_NS)
        self.beats = self.failures = self.good = 0

    def wait(self, trip_ms: float, limit: float, now_ns: int) -> bool:
        """One beat of an instance that is out; whether its probation begins: not while heartbeats still are slow."""
        if now_ns < self.until_ns or trip_ms > limit:
            return False
        self.state, self.since_ns, self.good = PROBING, now_ns, 0
        return True

    def doubt(self, now_ns: int) -> None:
        """One hiccup is all that is known of late: one quick probe is enough to clear it."""
        self.state, self.reason, self.since_ns, self.good = PROBING, "one slow answer", now_ns, PROBES - 1

    def probed(self, latency_ms: float, limit: float, now_ns: int) -> bool:
        """A probe was answered, or waits for its answer for so long already; whether the state has changed."""
        if latency_ms > limit:
            self.eject(f"a probe took {latency_ms:.0f} ms, the limit is {limit:.0f}", now_ns)
            return True
        self.good += 1
        if self.good < PROBES:
            return False
        self.readmit(now_ns)
        return True

    def readmit(self, now_ns: int) -> None:
        """It is in again; how often it was out is forgotten slowly."""
        self.state, self.reason, self.since_ns = IN, "", now_ns
        self.beats = self.failures = 0
