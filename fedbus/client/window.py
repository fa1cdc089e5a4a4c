"""A producer's window: what of it is unanswered, within bounds, so that a fast producer waits."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence

from fedbus.client.parcel import Parcel
from fedbus.errors import FedbusError
from fedbus.limits import Limits


class Window:
    """The parcels of one producer that are not settled; bounded in batches, bytes and span of sequences.

    ``max_in_flight`` (batches) narrows the limits. The span keeps every retry inside the owners' dedup windows: below
    them "already stored" can no longer be told.
    """

    def __init__(self, limits: Limits, *, idempotent: bool = False, max_in_flight: int = 0) -> None:
        self.idempotent = idempotent
        self.name = secrets.token_hex(8)  # the producer's id on the wire
        self.sequence = 0
        self.acknowledged = 0  # events that are durable
        self.failed = 0  # events without a ticket that are not
        self.failure: FedbusError | None = None  # why the first of them failed
        self._max_batches = min(max_in_flight or limits.publish_window_batches, limits.publish_window_batches)
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

    def split(self, parcel: Parcel, parts: Sequence[Parcel]) -> None:
        """These parcels go on instead of that one."""
        self.add(parts)
        self._remove(parcel)

    def settled(self, parcel: Parcel, error: FedbusError | None) -> None:
        """A parcel is durable or has failed for good."""
        self._remove(parcel)
        if error is None:
            self.acknowledged += parcel.batch.count
        elif (untold := parcel.claims.count(None) if parcel.claims else parcel.batch.count) > 0:
            self.failure = self.failure or error
            self.failed += untold

    def raise_failure(self) -> None:
        """Raise what has failed since the last time, if anything."""
        failure, failed, self.failure, self.failed = self.failure, self.failed, None, 0
        if failure is not None:
            failure.add_note(f"{failed} event(s) sent by this producer failed; {self.acknowledged} are durable")
            raise failure

    async def room(self) -> None:
        """Wait until another parcel may be posted."""
        while not self.has_room:
            await self._change()

    async def empty(self) -> None:
        """Wait until everything posted before this call is settled."""
        last = self.sequence
        while any(parcel.order <= last for parcel in self._parcels.values()):  # parts have later sequences
            await self._change()

    async def _change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def _remove(self, parcel: Parcel) -> None:
        if self._parcels.pop(parcel.sequence, None) is not None:
            self._bytes -= parcel.size_bytes
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)


class Windows:
    """A producer's two, each with its own numbers, so that neither holds the other up.

    One for what counts once this region has it, one for what waits for a second region (protocol rule 20).
    """

    def __init__(self, limits: Limits, *, idempotent: bool = False, max_in_flight: int = 0) -> None:
        self._here = Window(limits, idempotent=idempotent, max_in_flight=max_in_flight)
        self._geo = Window(limits, idempotent=idempotent, max_in_flight=max_in_flight)
        self.name = self._here.name

    def of(self, *, geo: bool) -> Window:
        """That of batches which wait for a second region, or the other."""
        return self._geo if geo else self._here

    @property
    def acknowledged(self) -> int:
        """Events that are durable."""
        return self._here.acknowledged + self._geo.acknowledged

    @property
    def failing(self) -> bool:
        """Whether something has failed since the last time that was raised."""
        return self._here.failure is not None or self._geo.failure is not None

    def raise_failure(self) -> None:
        """Raise what has failed since the last time, if anything."""
        self._here.raise_failure()
        self._geo.raise_failure()

    async def empty(self) -> None:
        """Wait until everything posted before this call is settled."""
        await self._here.empty()
        await self._geo.empty()
