"""Latency: a running estimate from round trips, quick to believe bad news and slow to believe good ones.

A peak-sensitive, exponentially weighted average (as in Finagle's "Peak EWMA" load metric): a round trip above the
estimate moves it up to half the way at once, one below it lets it fall with the time that has passed, so that many
quick answers within a moment prove no more than one. Slow answers within a moment prove no more than one either: how
much one weighs grows with the time since the last, and with what it took. Knows nothing of what they are of.
"""

from __future__ import annotations

from math import exp

NS_PER_MS = 1_000_000
RISE = 0.5  # share of the way up that one slow answer is worth at most, …
RISE_NS = 200_000_000  # … and this part of the time it took, or that has passed since the last: a hiccup moves little
FALL_NS = 1_000_000_000  # time constant of the way down


class Latency:
    """An estimate in milliseconds.

    ``at_ns``: of the last round trip, None while ``ms`` is only expected; ``last_ms``: what that took.
    ``trusted``: the next one only moves it.
    """

    __slots__ = ("at_ns", "last_ms", "ms", "trusted")

    def __init__(self, expected_ms: float) -> None:
        self.ms = self.last_ms = expected_ms
        self.at_ns: int | None = None
        self.trusted = False

    def observe(self, ms: float, now_ns: int) -> None:
        """A round trip took ``ms``."""
        if self.at_ns is None or not self.trusted:
            self.ms = ms
        elif ms > self.ms:
            self.ms += min(RISE, max(now_ns - self.at_ns, ms * NS_PER_MS) / RISE_NS) * (ms - self.ms)
        else:
            self.ms = ms + (self.ms - ms) * exp(-max(0, now_ns - self.at_ns) / FALL_NS)
        self.at_ns, self.last_ms = now_ns, ms
        self.trusted = True

    def at_least(self, ms: float, now_ns: int) -> None:
        """Something unanswered has been under way for ``ms`` already."""
        if ms > self.ms:
            self.observe(ms, now_ns)

    def newest_ms(self, since_ns: int) -> float | None:
        """What the newest round trip took, None if there was none since."""
        return self.last_ms if self.at_ns is not None and self.at_ns > since_ns else None

    def forget(self) -> None:
        """The next round trip counts as if it were the first."""
        self.trusted = False

    def drift(self, toward_ms: float, share: float) -> None:
        """What has not been seen for long is less and less certain: go a share of the way to what others take."""
        self.ms += share * (toward_ms - self.ms)
