"""How much of an instance's write queue links may fill together, so that publishers always have room.

Links share it evenly: each may have so much on its way here, and what comes on top is left at its origin.
"""

from __future__ import annotations

from collections import deque

from fedbus.limits import Limits

SHARE = 4  # links together get one part in so many


class LinkShare:
    """``pending_bytes``: what links brought and is not yet confirmed."""

    def __init__(self, limits: Limits) -> None:
        self.pending_bytes = 0
        self._most_bytes = max(limits.uncommitted_bytes // SHARE, limits.batch_bytes)
        self._window_bytes = limits.link_window_bytes
        self._batch_bytes = limits.batch_bytes
        self._pending: deque[tuple[int, int]] = deque()  # (record number, bytes)

    @property
    def room_bytes(self) -> int:
        """What they may still fill."""
        return self._most_bytes - self.pending_bytes

    @property
    def full(self) -> bool:
        """Whether links have to wait."""
        return self.pending_bytes >= self._most_bytes

    def window_bytes(self, links: int) -> int:
        """What each of so many links may have under way; at least one batch."""
        return max(self._batch_bytes, min(self._window_bytes, self._most_bytes // max(1, links)))

    def added(self, number: int, size_bytes: int) -> None:
        """Record ``number`` came over a link."""
        self._pending.append((number, size_bytes))
        self.pending_bytes += size_bytes

    def confirmed(self, number: int) -> None:
        """Records up to ``number`` are durable."""
        while self._pending and self._pending[0][0] <= number:
            self.pending_bytes -= self._pending.popleft()[1]

    def void(self) -> None:
        """What was not confirmed was never stored."""
        self._pending.clear()
        self.pending_bytes = 0
