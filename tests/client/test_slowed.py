"""A slowed instance over real sockets: its keyless traffic leaves within five seconds, and comes back to stay."""

import asyncio
from collections import deque
from contextlib import AsyncExitStack

from fedbus.broker.protocol import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Hello
from fedbus.client.bootstrap import Bootstrap
from fedbus.client.bus import Bus
from fedbus.errors import FedbusError
from fedbus.keys import key_hash
from fedbus.routing.table import HEALTHY, InstanceRoute, RoutingTable, region_route
from fedbus_loadtests.bench.slow_way import SlowWay
from tests.client.instances import REGION
from tests.client.waiting import until

NAMES = ("b1", "b2", "b3")
SLOWED = f"{REGION}/b1"
LATELY = 120  # events


class Traffic:
    """Publishes one event after the other in several tasks; ``lately``: which instances took the last ones."""

    def __init__(self, bus):
        self._bus = bus
        self.lately = deque(maxlen=LATELY)
        self.sent = self.by_slowed = 0
        self.failed = []
        self._tasks = [asyncio.create_task(self._run()) for _ in range(6)]

    async def _run(self):
        while True:
            try:
                receipt = await self._bus.publish("slowed.a", b"x")
            except FedbusError as error:
                self.failed.append(error)
                raise
            self.lately.append(receipt.instance)
            self.sent += 1
            self.by_slowed += receipt.instance == SLOWED
            await asyncio.sleep(0.004)

    def share(self):
        return self.lately.count(SLOWED) / LATELY if len(self.lately) == LATELY else None

    async def stop(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def bus_of(endpoints):
    routes = [InstanceRoute(f"{REGION}/{name}", endpoint) for name, endpoint in zip(NAMES, endpoints, strict=True)]
    table = RoutingTable("f", REGION, 1, [region_route(REGION, routes)])

    async def find():
        return Bootstrap(table, REGION)

    return Bus(find, Hello(OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, "client", "t", REGION, True))


async def test_a_slowed_instance_loses_its_keyless_traffic_within_five_seconds_and_gets_it_back(instances):
    endpoints = [instances.start(name) for name in NAMES]
    instances.apply_table(1, **dict.fromkeys(NAMES, HEALTHY))  # the clients' own of that version leads through the way
    async with AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(SlowWay(int(each.rpartition(":")[2]))) for each in endpoints]
        bus = await stack.enter_async_context(bus_of([way.endpoint for way in ways]))
        key = next(k for k in map(str, range(10_000)) if bus.router.owner(key_hash(k)).instance == SLOWED)
        traffic = Traffic(bus)
        await until(lambda: (traffic.share() or 0) > 0.15)

        ways[0].delay_s = 0.15
        traffic.lately.clear()
        await until(lambda: traffic.share() is not None and traffic.share() <= 0.1 / len(NAMES), 5.0)
        await until(lambda: "out" in row(bus)["ejected"])
        assert "median" in row(bus)["ejected"] or "probe" in row(bus)["ejected"]
        assert (await bus.publish("slowed.a", b"x", key=key)).instance == SLOWED, "keys stay where their order is kept"

        ways[0].delay_s = 0.0
        await until(lambda: traffic.share() > 0.2, 60.0)
        sent, taken = traffic.sent, traffic.by_slowed
        await until(lambda: traffic.sent >= sent + 8 * LATELY)
        assert traffic.by_slowed - taken > 0.1 * (traffic.sent - sent), "it was left once more"
        await traffic.stop()
        assert traffic.failed == []


def row(bus):
    return next(row for row in bus.router.explain() if row["instance"] == SLOWED)
