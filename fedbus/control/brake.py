"""The brake: when many vanish at once, it is more often the view that broke than what one looks at.

Who looks waits for a while before doing anything that cannot be undone. Times are the caller's.
"""

from __future__ import annotations

import math

LEAST = 2  # of one, nobody can say that many are gone


def many(gone: int, of: int, share: float) -> bool:
    """Whether so many of so many are more than likely to be gone at once."""
    return gone >= max(LEAST, math.ceil(share * of))


class Brake:
    """Holds for ``hold_ns`` from the moment at which ``share`` of all are gone, and as long as they still are."""

    def __init__(self, share: float, hold_ns: int) -> None:
        self._share = share
        self._hold_ns = hold_ns
        self._since_ns: int | None = None

    def holds(self, gone: int, of: int, now_ns: int) -> bool:
        """Whether nothing is to be done now."""
        if not many(gone, of, self._share):
            self._since_ns = None
            return False
        if self._since_ns is None:
            self._since_ns = now_ns
        return now_ns - self._since_ns < self._hold_ns
