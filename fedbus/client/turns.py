"""Turns: order per key while keys move from one owner to another (the client's side of rule 11).

Keys are spread over the lanes by owner, so that in quiet times the events of one key are in one lane, in their order.
When owners change, older parcels may still be in flight in the lane of the former owner: they may be refused there and
come back. Until they are answered, later parcels of the same producer and key slot wait, and with them what that
producer has behind them in their lane. Later ones also wait for what is parked in no lane at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Protocol

from fedbus.client.parcel import Parcel
from fedbus.client.parked import Parked


class Flying(Protocol):
    """What was sent and is not answered."""

    def all(self) -> list[tuple[int, Parcel]]:
        """By request."""


class Way(Protocol):
    """A lane as seen from here."""

    queue: deque[Parcel]

    @property
    def flight(self) -> Flying:
        """What was sent."""


class Turns:
    """Whose turn it is. ``generation`` grows whenever keys may have found another owner; ``lanes``: all of them.

    ``parked``: what is in none of them; ``settling``: parcels of an earlier generation may be in flight.
    """

    def __init__(self, lanes: Mapping[str, Way], parked: Parked) -> None:
        self.generation = 0
        self._lanes = lanes
        self._parked = parked
        self.settling = False

    def next_generation(self) -> None:
        """Owners have changed."""
        self.generation += 1
        self.settling = True

    def next_in(self, lane: Way) -> int | None:
        """The place of the next parcel of this lane that may be sent; ``None``: all have to wait."""
        if not self.settling and not self._parked:
            return 0
        waiting: set[str] = set()
        for place, parcel in enumerate(lane.queue):
            if parcel.sender.name not in waiting and not self.barred(lane, parcel):
                return place
            waiting.add(parcel.sender.name)
        return None

    def barred(self, lane: Way, parcel: Parcel) -> bool:
        """Whether it has to wait for an older one of its producer: parked, or sent elsewhere before owners changed."""
        if not parcel.batch.keyed:
            return False
        if self._parked.bars(parcel):
            return True
        if not self.settling:
            return False
        self.settling = False
        barred = False
        for other in self._lanes.values():
            for _, older in other.flight.all():
                if older.generation == self.generation or not older.batch.keyed:
                    continue
                self.settling = True
                if other is lane or older.sender is not parcel.sender or older.order >= parcel.order:
                    continue
                barred = barred or older.touches(parcel)
        return barred
