"""A member of a group: what it may take, and what it holds."""

from __future__ import annotations


class Member:
    """One consumer attached to this instance. ``held_events``, ``held_bytes``: what it was sent and has not settled."""

    __slots__ = (
        "behind", "credit", "heard_ns", "held_bytes", "held_events", "max_bytes", "max_events", "name", "session",
        "silent", "subscription",
    )  # fmt: skip

    def __init__(
        self, name: str, session: bytes, subscription: int, credit: int, max_events: int, max_bytes: int
    ) -> None:
        self.name = name
        self.session = session
        self.subscription = subscription
        self.credit = credit
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.held_events = 0
        self.held_bytes = 0
        self.behind = 0  # portions parked for it: what is newer of its keys has to queue behind them
        self.heard_ns = 0  # when it settled something
        self.silent = False

    @property
    def full(self) -> bool:
        """Whether it holds as much as it may."""
        return self.held_events >= self.max_events or self.held_bytes >= self.max_bytes

    @property
    def room(self) -> int:
        """How many events it can take now."""
        if self.credit <= 0 or self.full:
            return 0
        return min(self.credit, self.max_events - self.held_events)
