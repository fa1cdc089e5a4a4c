"""Settling deliveries of a group at one instance: acknowledgements are collected and sent as ranges.

Buffered ones leave every few milliseconds or every :data:`ACKS_AT_ONCE`. Those somebody waits for leave at once, and
again in the next session if this one ends before they are confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from fedbus.broker import protocol as wire
from fedbus.client.connection import Connection
from fedbus.errors import UnavailableError
from fedbus.ranges import Range

LINGER_S = 0.005
ACKS_AT_ONCE = 1000
DURABLE_S = 10.0  # how long a waiting ack waits

Waiting = list[asyncio.Future[None]]


class Settling:
    """Implements :class:`~fedbus.event.Settlement`. ``elsewhere`` takes what comes after the instance is gone."""

    def __init__(self, number: int, connection: Connection, elsewhere: Callable[[str, list[int]], None]) -> None:
        self.standing = False  # whether there is a session to send in
        self._number = number
        self._connection = connection
        self._elsewhere = elsewhere
        self._loop = asyncio.get_running_loop()
        self._acks: dict[str, list[int]] = {}
        self._count = 0
        self._waiting: Waiting = []
        self._unconfirmed: dict[int, tuple[dict[str, list[int]], Waiting]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    @property
    def open(self) -> bool:
        """Whether anything is collected, or sent and waited for."""
        return bool(self._acks or self._waiting or self._unconfirmed)

    async def ack(self, ledger: str, offset: int, *, wait: bool) -> None:
        """Acknowledge one event; with ``wait`` return when that is durable, or raise after 10 s."""
        self.note(ledger, (offset,))
        if wait:
            await self.confirm(DURABLE_S)

    async def nack(self, ledger: str, offset: int, *, delay_ms: int) -> None:
        """Give one event back."""
        self._connection.send(wire.Nack(self._number, [wire.Settled(ledger, [(offset, offset + 1)])], delay_ms))

    async def extend(self, ledger: str, offset: int) -> None:
        """Start the deadline of one event anew."""
        self._connection.send(wire.Extend(self._number, [wire.Settled(ledger, [(offset, offset + 1)])]))

    def note(self, ledger: str, offsets: Iterable[int]) -> None:
        """Collect acknowledgements."""
        if self._ended:
            self._elsewhere(ledger, list(offsets))
            return
        collected = self._acks.get(ledger)
        if collected is None:
            collected = self._acks[ledger] = []
        collected.extend(offsets)
        self._count += 1
        if self._timer is None:
            self._timer = self._loop.call_later(LINGER_S, self.flush)
        elif self._count == ACKS_AT_ONCE:
            self.flush()

    async def confirm(self, timeout_s: float) -> None:
        """Send what is collected and wait until it is durable; :class:`UnavailableError` after ``timeout_s``."""
        done = self._loop.create_future()
        self._waiting.append(done)
        self._loop.call_soon(self.flush)  # with those of other tasks that are ready now
        try:
            await asyncio.wait_for(done, timeout_s)
        except TimeoutError:
            raise UnavailableError(
                f"{self._connection.endpoint} did not confirm acknowledgements within {timeout_s:.0f} s: their events "
                "may be delivered again"
            ) from None

    def flush(self) -> None:
        """Send what is collected, if there is a session."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.standing or not (self._acks or self._waiting):
            return
        acks, waiting = self._acks, self._waiting
        settled = [wire.Settled(ledger, as_ranges(offsets)) for ledger, offsets in acks.items()]
        request = self._connection.request(lambda answer: self._answered(request, answer)) if waiting else 0
        if self._connection.send(wire.Ack(self._number, settled, request)):
            self._acks, self._waiting, self._count = {}, [], 0
            if waiting:
                self._unconfirmed[request] = (acks, waiting)
        else:
            self._connection.forget(request)
            self._timer = self._loop.call_later(LINGER_S * 10, self.flush)

    def interrupted(self) -> None:
        """The session ended: what is not confirmed is sent again in the next."""
        self.standing = False
        for request in list(self._unconfirmed):
            self._take_back(request)

    def resumed(self) -> None:
        """There is a session again."""
        self.standing = True
        self.flush()

    def end(self) -> None:
        """The instance is gone, or the subscription ends."""
        self.interrupted()
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        for ledger, offsets in self._acks.items():
            self._elsewhere(ledger, offsets)
        for future in self._waiting:
            if not future.done():
                future.set_exception(
                    UnavailableError(f"{self._connection.endpoint} went away before it confirmed an acknowledgement")
                )

    def _answered(self, request: int, answer: wire.FromInstance) -> None:
        if isinstance(answer, wire.Ok):
            for future in self._unconfirmed.pop(request)[1]:
                if not future.done():
                    future.set_result(None)
        else:
            self._take_back(request)
            self._timer = self._timer or self._loop.call_later(LINGER_S * 10, self.flush)

    def _take_back(self, request: int) -> None:
        acks, waiting = self._unconfirmed.pop(request)
        for ledger, offsets in acks.items():
            self._acks.setdefault(ledger, []).extend(offsets)
        self._waiting += waiting


def as_ranges(offsets: list[int]) -> list[Range]:
    """Sorted, disjoint half-open ranges of these offsets."""
    offsets.sort()
    ranges: list[Range] = []
    start = end = offsets[0]
    for offset in offsets:
        if offset > end:
            ranges.append((start, end))
            start = offset
        end = offset + 1
    ranges.append((start, end))
    return ranges
