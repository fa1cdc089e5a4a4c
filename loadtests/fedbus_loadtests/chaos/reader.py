"""A reader of a fault run: a member of a group, or a stream; records what it is handed and has settled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from zlib import crc32

import google_crc32c

from fedbus.broker.dead_letter import GROUP
from fedbus.broker.group_spec import DEAD_LETTERS
from fedbus.client.bus import Bus
from fedbus.client.subscriber import Subscription
from fedbus.errors import FedbusError
from fedbus.event import Event
from fedbus_loadtests.chaos.client_spec import ReaderSpec
from fedbus_loadtests.chaos.publisher import POISON
from fedbus_loadtests.chaos.recorder import Recorder

TAKE, TAKE_S = 200, 0.25
SLOW_S = 0.05
AGAIN_S = 0.1
BACKOFF_MS = (20, 200)


class Reader:
    """Reads through ``bus`` from :meth:`run` until :meth:`stop`; a lost subscription is made anew."""

    def __init__(self, spec: ReaderSpec, bus: Bus, recorder: Recorder) -> None:
        self._spec = spec
        self._bus = bus
        self._recorder = recorder
        self._hurrying = asyncio.Event()
        self._stopping = False
        self._start: str | None = spec.start
        self._given_back: set[str] = set()

    def hurry(self) -> None:
        """Settle everything from now on: the faults are over and the backlog is to drain."""
        self._hurrying.set()

    def stop(self) -> None:
        """Read no more."""
        self._stopping = True
        self._hurrying.set()

    async def run(self) -> None:
        """Read."""
        while not self._stopping:
            try:
                await self._read()
            except FedbusError as error:
                self._recorder.write("info", "deliver", subscription=self._spec.name, detail=error.detail[:200])
                await asyncio.sleep(AGAIN_S)

    async def _read(self) -> None:
        spec = self._spec
        subscription = self._bus.subscribe(
            spec.filters, None if spec.live else spec.name, self._start, max_in_flight=spec.max_in_flight,
            ack_deadline_ms=spec.ack_deadline_ms, max_deliveries=spec.max_deliveries, backoff_min_ms=BACKOFF_MS[0],
            backoff_max_ms=BACKOFF_MS[1],
        )  # fmt: skip
        async with subscription:
            self._recorder.write(
                "ok", "subscribe", subscription=spec.name, topic=" ".join(spec.filters), start=spec.start,
                live=spec.live, target=spec.home,
            )  # fmt: skip
            while not self._stopping:
                events = await subscription.take(self._at_once(), TAKE_S)
                for event in events:
                    self._record(event)
                if spec.live:
                    self._start = subscription.cursor()
                elif events:
                    await self._settle(subscription, events)

    def _at_once(self) -> int:
        slow = self._spec.manner == "slow" and not self._hurrying.is_set()
        return 1 if slow else TAKE

    def _record(self, event: Event) -> None:
        data = event.payload or b""
        if event.topic.startswith(DEAD_LETTERS):
            group = str((event.attributes or {}).get(GROUP, ""))
            crc = int(google_crc32c.value(data))
            self._recorder.write(
                "ok", "dead", subscription=group, id=event.id, key=event.key or "", crc=crc,
                position=str(event.position),
            )  # fmt: skip
            return
        self._recorder.write(
            "ok", "deliver", subscription=self._spec.name, id=event.id, topic=event.topic, key=event.key or "",
            crc=int(google_crc32c.value(data)), position=str(event.position), delivery=event.delivery,
            live=self._spec.live,
        )  # fmt: skip

    async def _settle(self, subscription: Subscription, events: Sequence[Event]) -> None:
        hurrying, manner = self._hurrying.is_set(), self._spec.manner
        if manner == "slow" and not hurrying:
            await asyncio.sleep(SLOW_S)
        elif manner == "never" and not hurrying:
            await self._hold(events)
        refused = [event for event in events if self._refuses(event, manner, hurrying=hurrying)]
        for event in refused:
            await event.nack(delay_ms=50 if manner == "picky" else None)
            self._recorder.write(
                "info", "nack", subscription=self._spec.name, id=event.id, position=str(event.position)
            )
        taken = [event for event in events if event not in refused]
        for event in taken:
            if event.id in self._given_back:
                self._recorder.write(
                    "invoke", "ack", subscription=self._spec.name, id=event.id, position=str(event.position)
                )
        outcomes = await asyncio.gather(*(event.ack(wait=True) for event in taken), return_exceptions=True)
        for event, outcome in zip(taken, outcomes, strict=True):
            if outcome is None:
                self._recorder.write(
                    "ok", "ack", subscription=self._spec.name, id=event.id, position=str(event.position)
                )
            elif not isinstance(outcome, FedbusError):
                raise outcome

    async def _hold(self, events: Sequence[Event]) -> None:
        """Keep them, past every deadline, until it is time to hurry."""
        await self._hurrying.wait()

    def _refuses(self, event: Event, manner: str, *, hurrying: bool) -> bool:
        if manner == "strict":
            return event.payload == POISON
        first = event.id not in self._given_back
        if manner == "picky" and not hurrying and first and crc32(event.id.encode()) % 3 == 0:
            self._given_back.add(event.id)
            return True
        return False
