"""A producer's window: how much of it may be unanswered, so that a fast producer waits instead of filling memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from fedbus.client.parcel import Parcel
from fedbus.limits import Limits


class Window:
    """The parcels of one producer that are not settled; bounded in batches, bytes and span of sequences.

    The span keeps every retry inside the owners' dedup windows: below them "already stored" can no longer be told.
    """

    def __init__(self, limits: Limits) -> None:
        self.sequence = 0
        self._max_batches = limits.publish_window_batches
        self._max_bytes = limits.publish_window_bytes
        self._max_span = max(1, limits.dedup_window_batches // 2)
        self._parcels: dict[int, Parcel] = {}
        self._bytes = 0
        self._waiting: list[asyncio.Future[None]] = []

    def next_sequence(self) -> int:
        """The sequence of the next parcel, from 1."""
        self.sequence += 1
        return self.sequence

    @property
    def has_room(self) -> bool:
        """Whether another parcel may be posted."""
        return not self._parcels or (
            len(self._parcels) < self._max_batches
            and self._bytes < self._max_bytes
            and self.sequence - next(iter(self._parcels)) < self._max_span
        )

    def add(self, parcels: Iterable[Parcel]) -> None:
        """Posted, and open from now on."""
        for parcel in parcels:
            self._parcels[parcel.sequence] = parcel
            self._bytes += parcel.size_bytes

    def remove(self, parcel: Parcel) -> None:
        """Settled."""
        if self._parcels.pop(parcel.sequence, None) is not None:
            self._bytes -= parcel.size_bytes
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def room(self) -> None:
        """Wait until another parcel may be posted."""
        while not self.has_room:
            await self._change()

    async def empty(self) -> None:
        """Wait until everything posted before this call is settled."""
        last = self.sequence
        while self._parcels and next(iter(self._parcels)) <= last:
            await self._change()

    async def _change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future
