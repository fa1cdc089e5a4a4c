"""Pulling: a member of a group that receives only what is asked for, and settles by position.

For consumers who come and go, such as callers of the HTTP API: nothing is fetched ahead of a pull, so that no event
runs into its deadline because nobody asked. What a pull leaves under way (it ended while events were coming) the next
one hands out; what has waited for longer than its deadline is being delivered elsewhere and is dropped here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from fedbus.client.attachment import Attachment
from fedbus.client.subscriber import Subscription
from fedbus.clock import Clock
from fedbus.errors import FedbusError, UnavailableError
from fedbus.event import Event, Settlement, by_settlement
from fedbus.position import Position

FILL_S = 0.02  # how long a pull that has an event waits for more
ASK_S = 0.1  # at least so long one that has none waits: the instances have to be asked first
LOOK_S = 0.25  # how often one that waits looks whether there is another instance to ask
FRESH_SHARE = 0.8  # of the deadline, in which an event left over may still be handed out


class Pulled(NamedTuple):
    """An event and where it can be settled: the instance that delivered it, and its position."""

    event: Event
    instance: str
    position: Position


class Pulling:
    """One consumer. ``subscription`` is a group's and not started yet; ``ack_deadline_ms`` is the group's."""

    def __init__(self, subscription: Subscription, ack_deadline_ms: int, clock: Clock) -> None:
        subscription.spec = msgspec.structs.replace(subscription.spec, credit=0)
        self._subscription = subscription
        self._fresh_ns = int(ack_deadline_ms * 1_000_000 * FRESH_SHARE)
        self._clock = clock
        self._left_ns: int | None = None  # when the last pull ended
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Join the group at all instances; raises as entering a subscription does."""
        await self._subscription.__aenter__()

    async def close(self) -> None:
        """Leave the group: what was not settled is delivered to others."""
        await self._subscription.close()

    async def pull(self, most: int, wait_s: float) -> list[Pulled]:
        """Up to ``most`` events; waits up to ``wait_s`` seconds for the first, and hardly for more.

        Raises what ended the subscription: :class:`NotFoundError` if the group was deleted.
        """
        deadline_ns = self._clock.monotonic_ns() + int(wait_s * 1e9)
        try:
            await asyncio.wait_for(self._turn.acquire(), max(wait_s, FILL_S))
        except TimeoutError:
            return []  # who pulls already gets what comes
        try:
            found = self._take_left(most)
            if self._subscription.inflow is not None and self._subscription.inflow.failure is not None:
                raise self._subscription.inflow.failure
            if len(found) < most:
                try:
                    await self._ask(found, most, deadline_ns)
                finally:
                    self._grant(self._attachments(), 0)
                    self._left_ns = self._clock.monotonic_ns()
            return self._placed(found)
        finally:
            self._turn.release()

    def _take_left(self, most: int) -> list[Event]:
        """What an earlier pull left under way, while it is fresh."""
        if self._left_ns is not None and self._clock.monotonic_ns() - self._left_ns > self._fresh_ns:
            self._subscription.drop_queued()
        return self._subscription.take_queued(most)

    async def _ask(self, found: list[Event], most: int, deadline_ns: int) -> None:
        """First an equal share from each instance, then the rest from those that gave all of theirs."""
        share = -(-(most - len(found)) // max(1, len(self._attachments())))
        first = await self._await_first(share, most - len(found), FILL_S if found else None, deadline_ns)
        found += first
        if not first or len(found) >= most:
            return
        given = {settlement: sum(map(len, of.values())) for settlement, of in by_settlement(first).items()}
        self._grant((each for each in self._attachments() if given.get(each.settling, 0) >= share), most - len(found))
        found += await self._subscription.take(most - len(found), FILL_S)

    async def _await_first(self, share: int, most: int, wait_s: float | None, deadline_ns: int) -> list[Event]:
        """The first events to come; an instance that (again) has the subscription meanwhile is asked too."""
        asked: dict[Attachment, int] = {}  # with its session
        while True:
            attachments = [each for each in self._attachments() if asked.get(each) != each.session]
            self._grant(attachments, share)
            asked |= {each: each.session for each in attachments}
            left_s = wait_s if wait_s is not None else (deadline_ns - self._clock.monotonic_ns()) / 1e9
            events = await self._subscription.take(most, min(max(ASK_S, left_s), LOOK_S) if wait_s is None else left_s)
            if events or wait_s is not None or left_s <= LOOK_S:
                return events

    def _attachments(self) -> list[Attachment]:
        inflow = self._subscription.inflow
        return [each for each in inflow.attachments.values() if each.standing] if inflow is not None else []

    @staticmethod
    def _grant(attachments: Iterable[Attachment], events: int) -> None:
        for attachment in attachments:
            attachment.grant(events)

    def _placed(self, events: Sequence[Event]) -> list[Pulled]:
        names: dict[Settlement, str] = {each.settling: each.instance for each in self._attachments()}
        placed: list[Pulled] = []
        for event in events:
            [settlement] = by_settlement([event])
            instance, position = names.get(settlement), event.position
            if instance is not None and position is not None:  # else its session is gone, and it comes again
                placed.append(Pulled(event, instance, position))
        return placed

    def settlement_at(self, instance: str) -> Settlement:
        """Where deliveries of this instance are settled; :class:`UnavailableError` if it is not attached."""
        for attachment in self._attachments():
            if attachment.instance == instance:
                return attachment.settling
        raise UnavailableError(
            f"instance {instance}, which delivered it, is not connected: the event will be delivered again"
        )

    async def ack(self, positions: Sequence[tuple[str, Position]]) -> list[FedbusError | None]:
        """Acknowledge deliveries (instance, position); per delivery what went wrong; durable when this returns."""
        by_instance: dict[str, dict[str, list[int]]] = {}
        for instance, position in positions:
            by_instance.setdefault(instance, {}).setdefault(position.ledger, []).append(position.offset)
        outcomes = await asyncio.gather(*(self._ack_at(instance, of) for instance, of in by_instance.items()))
        failed = dict(zip(by_instance, outcomes, strict=True))
        return [failed[instance] for instance, _ in positions]

    async def _ack_at(self, instance: str, offsets: dict[str, list[int]]) -> FedbusError | None:
        try:
            await self.settlement_at(instance).ack_many(offsets, wait=True)
        except FedbusError as error:
            return error
        return None

    async def nack(
        self, instance: str, position: Position, *, delay_ms: int | None = None, dead_letter: str = ""
    ) -> None:
        """Give one back; see :meth:`fedbus.event.Event.nack`."""
        settlement = self.settlement_at(instance)
        await settlement.nack(position.ledger, position.offset, delay_ms=delay_ms, dead_letter=dead_letter)

    async def extend(self, instance: str, position: Position) -> None:
        """Start the deadline of one anew."""
        await self.settlement_at(instance).extend(position.ledger, position.offset)
