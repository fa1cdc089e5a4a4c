"""A backlog: the messages that wait until ZeroMQ takes more for one peer, in order."""

from __future__ import annotations

from collections import deque

from fedbus.batch import Buffer

OVERHEAD_BYTES = 256  # of a queued message, beside its frames


class Backlog:
    """Bounded by who adds to it, in bytes."""

    __slots__ = ("messages", "size_bytes")

    def __init__(self) -> None:
        self.messages: deque[list[Buffer]] = deque()
        self.size_bytes = 0

    def add(self, parts: list[Buffer]) -> None:
        """Put a message behind the others."""
        self.messages.append(parts)
        self.size_bytes += _size_bytes(parts)

    def sent(self) -> None:
        """The first message is out."""
        self.size_bytes -= _size_bytes(self.messages.popleft())


def _size_bytes(parts: list[Buffer]) -> int:
    return OVERHEAD_BYTES + sum(len(part) for part in parts)
