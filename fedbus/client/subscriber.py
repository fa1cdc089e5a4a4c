"""A subscription as its user holds it: one stream of events from all instances of a region."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from types import TracebackType
from typing import Self, TypedDict

import msgspec

from fedbus.broker.group_spec import checked_options
from fedbus.broker.protocol import EARLIEST, LATEST, GroupOptions
from fedbus.client.inflow import Arrived, Inflow, SubscriptionSpec
from fedbus.client.start import StartLike, parse_start
from fedbus.client.whereabouts import Whereabouts
from fedbus.errors import ClosedError, InvalidEventError, TooLargeError, UnavailableError
from fedbus.event import Arrival, Event, by_settlement
from fedbus.limits import Limits
from fedbus.position import encode_cursor
from fedbus.topic import check_filter

START_S = 10.0
MAX_IN_FLIGHT = 2000

log = logging.getLogger("fedbus.client")


def subscription_spec(
    filters: str | Iterable[str],
    group: str | None,
    start: StartLike | None,
    max_in_flight: int | None,
    options: GroupOptions,
    limits: Limits,
) -> SubscriptionSpec:
    """Check what a user asks for; groups start at the earliest event by default, live ones at the latest."""
    patterns = sorted({check_filter(each) for each in ([filters] if isinstance(filters, str) else filters)})
    if not 0 < len(patterns) <= limits.filters_per_group:
        raise TooLargeError(f"{len(patterns)} filters: a subscription has 1 to {limits.filters_per_group}")
    default = EARLIEST if group else LATEST
    credit = max(1, min(max_in_flight or MAX_IN_FLIGHT, limits.member_credit_events))
    if group:
        options = checked_options(msgspec.structs.replace(options, max_in_flight=max_in_flight or 0), group)
    return SubscriptionSpec(patterns, group or "", parse_start(start) if start else default, credit, options)


class GroupDelivery(TypedDict, total=False):
    """How a new group delivers; see :class:`~fedbus.broker.protocol.GroupOptions` for meanings and defaults."""

    ack_deadline_ms: int
    max_deliveries: int
    dead_letter_topic: str
    backoff_min_ms: int
    backoff_max_ms: int


class Subscription:
    """Async iterator and async context manager over events; made by :meth:`Bus.subscribe`.

    It starts when the context is entered or the first event asked for. ``where``: whose instances it attaches to;
    ``ended`` is told when it is closed.
    """

    def __init__(
        self,
        spec: SubscriptionSpec,
        number: int,
        where: Whereabouts,
        ended: Callable[[Subscription], None],
    ) -> None:
        self.spec = spec
        self.inflow: Inflow | None = None  # once it has started
        self._number = number
        self._where = where
        self._ended = ended
        self._events: Iterator[Event] = iter(())
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            event = next(self._events, None)
            if event is not None:
                return event
            inflow = self.inflow
            if self._closed:
                raise StopAsyncIteration
            if inflow is None:
                await self._start()
            elif inflow.queue:
                self._events = self._decode(inflow, inflow.queue.popleft())
            elif inflow.failure is not None:
                raise inflow.failure
            else:
                await inflow.changed()

    async def take(self, max_events: int, timeout_s: float) -> list[Event]:
        """Up to ``max_events`` events: waits up to ``timeout_s`` seconds for the first, and for no other."""
        try:
            first = await asyncio.wait_for(anext(self), timeout_s)
        except (TimeoutError, StopAsyncIteration):
            return []
        return [first, *self.take_queued(max_events - 1)]

    def take_queued(self, max_events: int) -> list[Event]:
        """Up to ``max_events`` of the events that are here already."""
        events: list[Event] = []
        while len(events) < max_events:
            event = next(self._events, None)
            if event is not None:
                events.append(event)
            elif self.inflow is not None and self.inflow.queue:
                self._events = self._decode(self.inflow, self.inflow.queue.popleft())
            else:
                break
        return events

    def drop_queued(self) -> None:
        """Hand out nothing of what is here: it is too old, its instances deliver it again."""
        self._events = iter(())
        if self.inflow is not None:
            self.inflow.queue.clear()

    async def ack(self, events: Iterable[Event], *, wait: bool = False) -> None:
        """Acknowledge several events at once, cheaper than one by one; with ``wait`` return when that is durable."""
        for settlement, offsets in by_settlement(events).items():
            await settlement.ack_many(offsets, wait=wait)

    def cursor(self) -> str:
        """Where a stream goes on after the events handed out so far: an opaque text for ``start``."""
        return encode_cursor(self.inflow.read if self.inflow is not None else {})

    async def close(self) -> None:
        """End it; what was acknowledged is durable afterwards if the instances answer."""
        if not self._closed:
            self._closed = True
            self._events = iter(())
            if self.inflow is not None:
                await self.inflow.close()
            self._ended(self)

    def _decode(self, inflow: Inflow, arrived: Arrived) -> Iterator[Event]:
        attachment, deliver, floor, read = arrived.attachment, arrived.deliver, arrived.floor, inflow.read
        ledger, delivery, flags, decode = deliver.ledger, deliver.delivery, deliver.flags, Event.decode
        settlement = attachment.settling if self.spec.group else None
        inflow.reading = arrived
        offsets: Iterable[int] = chain.from_iterable(range(start, end) for start, end in deliver.ranges)
        for offset, (topic, _, data) in zip(offsets, arrived.batch.events(), strict=True):
            if arrived.session == attachment.session:
                attachment.consumed += 1
                if attachment.consumed >= attachment.half:
                    attachment.replenish()
            elif settlement is not None:
                inflow.reading = None
                return  # its session is gone: it will come again
            if offset < floor:
                continue
            if delivery > 1 and settlement is not None and settlement.acknowledged.holds(ledger, offset):
                settlement.note(ledger, (offset,))  # it crossed its acknowledgement
                continue
            try:
                event = decode(data, Arrival(topic, ledger, offset, delivery, settlement, flags))
            except InvalidEventError as error:
                log.error("the event at %s:%d cannot be read and is skipped: %s", ledger, offset, error)  # noqa: TRY400
                continue
            read[ledger] = offset + 1
            yield event
        inflow.reading = None
        read[ledger] = max(read.get(ledger, 0), arrived.next_offset)

    async def _start(self) -> None:
        if self._closed:
            raise ClosedError("this subscription was closed; subscribe again")
        inflow = self.inflow
        if inflow is None:
            inflow = self.inflow = Inflow(self.spec, self._number, self._where)
        try:
            async with asyncio.timeout(START_S):
                while not inflow.stands:
                    if inflow.failure is not None:
                        raise inflow.failure
                    await inflow.changed()
        except TimeoutError:
            names = ", ".join(inflow.attachments) or "none are known"
            raise UnavailableError(f"no bus instance took the subscription within {START_S:.0f} s ({names})") from None
