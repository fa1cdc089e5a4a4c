"""Settling deliveries of a group at one instance: acknowledgements are collected and sent as ranges.

Buffered ones leave every few milliseconds or every :data:`ACKS_AT_ONCE`. Those somebody waits for leave at once, and
again in the next session if this one ends before they are confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from fedbus.broker import protocol as wire
from fedbus.client.acknowledged import Acknowledged
from fedbus.client.confirmations import Confirmations, Waiting
from fedbus.client.connection import Connection
from fedbus.ranges import Range

LINGER_S = 0.005
ACKS_AT_ONCE = 1000
MOVED = "the group was moved or made anew since then: the event may be delivered again"


class Settling:
    """Implements :class:`~fedbus.event.Settlement`.

    ``elsewhere`` takes what comes after the instance is gone, ``follow`` who waits for it to be durable.
    """

    def __init__(
        self,
        number: int,
        connection: Connection,
        elsewhere: Callable[[str, list[int]], None],
        follow: Callable[[Waiting], None],
    ) -> None:
        self.standing = False  # whether there is a session to send in
        self.ended = False
        self.acknowledged = Acknowledged()
        self._number = number
        self._connection = connection
        self._elsewhere = elsewhere
        self._follow = follow
        self._loop = asyncio.get_running_loop()
        self._acks: dict[str, list[int]] = {}
        self._count = 0
        self.confirmations = Confirmations(connection.endpoint, self.flush)
        self._unconfirmed: dict[int, tuple[dict[str, list[int]], Waiting]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> bool:
        """Whether anything is collected, or sent and waited for."""
        return bool(self._acks or self.confirmations or self._unconfirmed)

    async def ack(self, ledger: str, offset: int, *, wait: bool) -> None:
        """Acknowledge one event; with ``wait`` return when that is durable, or raise after 10 s."""
        self.note(ledger, (offset,))
        if wait:
            await self.confirmations.wait()

    async def ack_many(self, offsets: Mapping[str, Sequence[int]], *, wait: bool) -> None:
        """Acknowledge many events at once; with ``wait`` return when that is durable, or raise after 10 s."""
        for ledger, some in offsets.items():
            self.note(ledger, some)
        if wait:
            await self.confirmations.wait()

    async def nack(self, ledger: str, offset: int, *, delay_ms: int | None, dead_letter: str) -> None:
        """Give one event back."""
        if self.standing:
            settled = [wire.Settled(ledger, [(offset, offset + 1)])]
            self._connection.send(wire.Nack(self._number, settled, -1 if delay_ms is None else delay_ms, dead_letter))

    async def extend(self, ledger: str, offset: int) -> None:
        """Start the deadline of one event anew."""
        if self.standing:
            self._connection.send(wire.Extend(self._number, [wire.Settled(ledger, [(offset, offset + 1)])]))

    def note(self, ledger: str, offsets: Sequence[int]) -> None:
        """Collect acknowledgements."""
        if self.ended:
            self._elsewhere(ledger, list(offsets))
            return
        collected = self._acks.get(ledger)
        if collected is None:
            collected = self._acks[ledger] = []
        collected.extend(offsets)
        before, self._count = self._count, self._count + len(offsets)
        if before < ACKS_AT_ONCE <= self._count:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(LINGER_S, self.flush)

    async def confirm(self, timeout_s: float) -> None:
        """Send what is collected and wait until it is durable; :class:`UnavailableError` after ``timeout_s``."""
        try:
            await asyncio.wait_for(self.confirmations.wait(), timeout_s)
        except TimeoutError:
            raise self.confirmations.late(timeout_s) from None

    def flush(self) -> None:
        """Send what is collected, if there is a session."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        awaited = bool(self.confirmations)
        if not self.standing or not (self._acks or awaited):
            return
        acks = self._acks
        settled = [wire.Settled(ledger, as_ranges(offsets)) for ledger, offsets in acks.items()]
        request = self._connection.request(lambda answer: self._answered(request, answer)) if awaited else 0
        if self._connection.send(wire.Ack(self._number, settled, request)):
            self.acknowledged.sent(settled)
            self._acks, self._count = {}, 0
            if awaited:
                self._unconfirmed[request] = (acks, self.confirmations.take())
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

    def void(self) -> None:
        """The group was moved, or is another one by now: what it delivered before cannot be settled any more."""
        self.interrupted()
        self.ended = True
        self._elsewhere = lambda *_: None
        self._acks.clear()
        if self._timer is not None:
            self._timer.cancel()
        self.confirmations.refuse(MOVED)

    def end(self) -> None:
        """The instance is gone, or the subscription ends."""
        self.interrupted()
        self.ended = True
        for ledger, offsets in self._acks.items():
            self._elsewhere(ledger, offsets)
        if self._timer is not None:
            self._timer.cancel()
        self.confirmations.hand_over(self._follow)

    def _answered(self, request: int, answer: wire.FromInstance) -> None:
        if isinstance(answer, wire.Ok):
            for waiters in self._unconfirmed.pop(request)[1]:
                waiters.settle(None)
        else:
            self._take_back(request)
            self._timer = self._timer or self._loop.call_later(LINGER_S * 10, self.flush)

    def _take_back(self, request: int) -> None:
        acks, waiting = self._unconfirmed.pop(request)
        self._connection.forget(request)  # the session may live on, and still answer
        for ledger, offsets in acks.items():
            self._acks.setdefault(ledger, []).extend(offsets)
        self.confirmations.put_back(waiting)


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
