"""Restarts: an instance that dies again and again heals nothing by being started once more.

While it does, it is to get no events, and to be replaced; it is trusted again after it has stood for a while. Its
ledgers are served meanwhile whenever it is up, and are copied as ever.
"""

from __future__ import annotations

from collections import deque

MOST = 8
WITHIN_NS = 300_000_000_000
CALM_NS = 60_000_000_000


class Restarts:
    """The newest restarts of one instance. Times are monotonic nanoseconds."""

    def __init__(self) -> None:
        self._at_ns: deque[int] = deque(maxlen=MOST)

    def happened(self, now_ns: int) -> None:
        """It was started again."""
        self._at_ns.append(now_ns)

    def looping(self, now_ns: int) -> bool:
        """Whether it was started so often, in so short a time, that the next time will not be the last."""
        if len(self._at_ns) < MOST or now_ns - self._at_ns[-1] > CALM_NS:
            return False
        return self._at_ns[-1] - self._at_ns[0] <= WITHIN_NS
