"""The replay: publishes what the scenario's load says, into all regions, through the client and over HTTP.

Open loop: how much is due depends on the clock alone, not on how fast answers come. What is due while too much is
unanswered waits, up to a bound. Every event's fate goes to the audit.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Self

import msgspec

import fedbus
from fedbus.client.bus import Bus
from fedbus.client.producer import Producer
from fedbus.clock import NS_PER_S, SystemClock
from fedbus.errors import FedbusError
from fedbus.event import Event
from fedbus_loadtests.demo.audit import Audit
from fedbus_loadtests.demo.clock import DemoClock
from fedbus_loadtests.demo.gateway_publisher import GatewayPublisher
from fedbus_loadtests.demo.scenario import BILLING, HTTP_SHARE, ORDERS, SITES, Scenario, Site, clicks_group, groups

SOURCE = "fedbus-demo"
TICK_S = 0.025
#: Publishes of one region that may be unanswered; beyond them the load waits.
UNANSWERED = 200
#: What waits longer than this many seconds is not offered any more.
LATEST_S = 5.0
HTTP_BATCH = 20
HTTP_LINGER_TICKS = 10
AGAIN_S = 0.5
TAKE = 500
TAKE_S = 1.0
CUSTOMERS = 500

log = logging.getLogger(__name__)


class Replay:
    """Publishers and consumers of the demonstration; an async context manager over their connections."""

    def __init__(self, url: str, scenario: Scenario, clock: DemoClock, audit: Audit, seed: int) -> None:
        self._url, self._scenario, self._clock, self._audit = url, scenario, clock, audit
        self._real = SystemClock()
        self._random = random.Random(f"{seed}/replay")
        self._stack = AsyncExitStack()
        self._buses: dict[str, Bus] = {}
        self._producers: dict[str, Producer] = {}
        self.troubles: list[str] = []
        self._gateway = GatewayPublisher(url, self.troubles)
        self._numbers = 0
        self._owed = dict.fromkeys(SITES, 0.0)
        self._posting: dict[Site, list[tuple[int, Event]]] = {site: [] for site in SITES}
        self._unanswered = dict.fromkeys(SITES, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self.not_offered = 0

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._gateway.close)
        for site in SITES:
            bus = await self._stack.enter_async_context(fedbus.connect(self._url, region=site.region, source=SOURCE))
            self._buses[site.region], self._producers[site.region] = bus, bus.producer()
        for group, (site, pattern) in groups().items():
            self._spawn(self._consume(self._buses[site.region], group, pattern))
        return self

    async def __aexit__(self, *failure: object) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def run(self) -> None:
        """Publish until :meth:`finish`."""
        last_ns, tick = self._clock.now_ns(), 0
        while not self._stopping.is_set():
            now_ns, tick = self._clock.now_ns(), tick + 1
            due = self._scenario.rate_eps(now_ns) * (now_ns - last_ns) / NS_PER_S
            last_ns = now_ns
            for site in SITES:
                self._offer(site, due * site.share, linger=tick % HTTP_LINGER_TICKS != 0)
            try:
                await asyncio.wait_for(self._stopping.wait(), TICK_S)
            except TimeoutError:
                continue

    async def finish(self, settle_s: float) -> None:
        """Stop publishing; wait until every event is answered for and delivered, or nothing has moved for so long."""
        self._stopping.set()
        deadline_ns, seen = self._real.monotonic_ns(), (-1, -1)
        while self._audit.missing or any(self._unanswered.values()):
            now_ns, present = self._real.monotonic_ns(), (self._audit.delivered_total, self._audit.acknowledged)
            if present != seen:
                deadline_ns, seen = now_ns + int(settle_s * NS_PER_S), present
            if now_ns >= deadline_ns:
                return
            await asyncio.sleep(0.1)

    # -- publishing ----------------------------------------------------------------------------------------------------

    def _offer(self, site: Site, due: float, *, linger: bool) -> None:
        self._owed[site] += due
        latest = self._scenario.rate_eps(self._clock.now_ns()) * self._clock_speed * site.share * LATEST_S + 1
        if self._owed[site] > latest:
            self.not_offered += int(self._owed[site] - latest)
            self._owed[site] = latest
        count = int(self._owed[site])
        if self._unanswered[site] >= UNANSWERED:
            return
        self._owed[site] -= count
        posting = self._posting[site]
        sending: list[tuple[int, Event]] = []
        for _ in range(count):
            entry = self._event(site)
            (posting if self._random.random() < HTTP_SHARE else sending).append(entry)
        if sending:
            self._spawn(self._send(site, sending))
        if len(posting) >= HTTP_BATCH or (posting and not linger):
            self._posting[site] = []
            self._spawn(self._post(site, posting))

    @property
    def _clock_speed(self) -> float:
        return 1 / self._clock.real_seconds(1.0)

    def _event(self, site: Site) -> tuple[int, Event]:
        self._numbers += 1
        is_order = self._random.random() < ORDERS
        customer = self._random.randrange(CUSTOMERS)
        body = {"customer": customer, "amount": self._numbers % 1000, "note": "x" * 80}
        event = Event(
            id=f"{self._numbers:x}",
            source=SOURCE,
            type=f"orders.{site.token}.created" if is_order else f"clicks.{site.token}.page",
            datacontenttype="application/json",
            key=f"customer-{customer}" if is_order else None,
            payload=msgspec.json.encode(body),
        )
        return self._numbers, event

    async def _send(self, site: Site, entries: list[tuple[int, Event]]) -> None:
        """Through the client: ids and fates one by one."""
        self._begin(site, entries)
        try:
            outcomes = await self._producers[site.region].publish_events([(event.type, event) for _, event in entries])
            now_ns = self._real.monotonic_ns()
            for (number, _), outcome in zip(entries, outcomes, strict=True):
                if isinstance(outcome, FedbusError):
                    self._failed(number, outcome.detail)
                else:
                    self._audit.acked(number, site.region, now_ns)
        finally:
            self._unanswered[site] -= 1

    async def _post(self, site: Site, entries: list[tuple[int, Event]]) -> None:
        """Over HTTP: a batch per topic, sent again with the same ids until it is accepted."""
        self._begin(site, entries)
        try:
            for topic in {event.type for _, event in entries}:
                batch = [(number, event) for number, event in entries if event.type == topic]
                if await self._gateway.accepts(site.region, topic, [event for _, event in batch]):
                    now_ns = self._real.monotonic_ns()
                    for number, _ in batch:
                        self._audit.acked(number, site.region, now_ns)
                else:
                    for number, _ in batch:
                        self._failed(number, "the gateway did not accept it")
        finally:
            self._unanswered[site] -= 1

    def _begin(self, site: Site, entries: list[tuple[int, Event]]) -> None:
        self._unanswered[site] += 1
        now_ns = self._real.monotonic_ns()
        for number, event in entries:
            group = BILLING if event.type.startswith("orders.") else clicks_group(site)
            self._audit.sent(number, group, now_ns)

    def _failed(self, number: int, why: str) -> None:
        self._audit.failed(number)
        if why not in self.troubles:
            self.troubles.append(why)

    # -- consuming -----------------------------------------------------------------------------------------------------

    async def _consume(self, bus: Bus, group: str, pattern: str) -> None:
        while True:
            try:
                async with bus.subscribe(pattern, group=group) as subscription:
                    while True:
                        for event in await subscription.take(TAKE, TAKE_S):
                            self._audit.delivered(group, int(event.id, 16), self._real.monotonic_ns())
                            await event.ack()
            except FedbusError as error:
                self.troubles.append(f"{group}: {error.detail}")
                await asyncio.sleep(AGAIN_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.troubles.append(repr(error))
            log.error("a task of the replay failed", exc_info=error)
