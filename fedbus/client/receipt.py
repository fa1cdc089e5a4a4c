"""Receipts: what a publisher gets for an event that is durable, and the ticket on which outcomes are collected."""

from __future__ import annotations

import asyncio

import msgspec

from fedbus.errors import FedbusError
from fedbus.position import Position


class Receipt(msgspec.Struct, frozen=True):
    """The event is durable at ``position``, taken by ``instance``; ``duplicate``: an earlier try had stored it."""

    id: str
    position: Position
    instance: str
    duplicate: bool = False


Outcome = Receipt | FedbusError


class Ticket:
    """Collects the outcomes of the events of one call; ``done`` completes with the last."""

    __slots__ = ("_open", "done", "outcomes")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.outcomes: list[Outcome | None] = [None] * count
        self.done: asyncio.Future[None] = loop.create_future()
        self._open = count

    def settle(self, place: int, outcome: Outcome) -> None:
        """Record the outcome of the event at ``place``; only the first one counts."""
        if self.outcomes[place] is None:
            self.outcomes[place] = outcome
            self._open -= 1
            if not self._open and not self.done.done():
                self.done.set_result(None)


Claim = tuple[Ticket, int, str]  # an event's ticket, its place there, its id
