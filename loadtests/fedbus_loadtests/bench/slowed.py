"""``bench slowed``: one of three instances is slow for a while, and where keyless events go meanwhile.

Single events in an open loop through the public API, to real instance processes; a forwarder in front of one of them
holds everything back by :data:`DELAY_S` each way. Counted is, per half second, what share that instance took.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from fedbus.broker.protocol import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Hello
from fedbus.client.bootstrap import Bootstrap
from fedbus.client.bus import Bus
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.report import Report
from fedbus_loadtests.bench.server_process import ServerProcess
from fedbus_loadtests.bench.slow_way import SlowWay
from fedbus_loadtests.bench.system import CLOCK

REGION = "bench.local"
INSTANCES = 3
DELAY_S = 0.1  # each way
BEFORE_S, SLOW_S, AFTER_S = 6.0, 15.0, 24.0
SLOT_S = 0.5
RATE_EPS = 300.0
SETTLED_S = 5.0  # the bar: nine tenths of the traffic have left by then
BACK_SHARE = 0.7  # of its fair share: it counts as back
LEFT_SHARE, WINDOW_S = 0.5, 3.0  # less than that of it for so long: its traffic has left again


class Shares:
    """Events sent per slot, all and those that the slowed instance took."""

    def __init__(self, slots: int, slowed: str) -> None:
        self._slowed = slowed
        self.all = [0] * slots
        self.taken = [0] * slots

    def count(self, slot: int, instance: str) -> None:
        """An event that was sent in this slot is durable there."""
        if slot < len(self.all):
            self.all[slot] += 1
            self.taken[slot] += instance == self._slowed

    def share(self, begin_s: float, end_s: float) -> float:
        """Share of the slowed instance in what was sent in these seconds."""
        slots = slice(round(begin_s / SLOT_S), round(end_s / SLOT_S))
        return sum(self.taken[slots]) / max(1, sum(self.all[slots]))

    def series(self) -> list[list[float]]:
        """Per slot its begin in seconds and the share."""
        return [[slot * SLOT_S, round(self.taken[slot] / max(1, self.all[slot]), 3)] for slot in range(len(self.all))]


async def slowed(params: Params, say: Say) -> Report:
    """Shares before, while it is slow, and afterwards; the last round's series for the plot. Medians of the rounds."""
    found: list[Shares] = []
    directory = Path(tempfile.mkdtemp(prefix="fedbus-bench-"))
    try:
        async with AsyncExitStack() as stack:
            servers = [_start(directory, f"b{number}") for number in range(1, INSTANCES + 1)]
            for server in servers:
                stack.push_async_callback(server.stop)
            endpoints = [(await server.said("tcp://")).strip() for server in servers]
            way = await stack.enter_async_context(SlowWay(int(endpoints[0].rpartition(":")[2])))
            table = _table([way.endpoint, *endpoints[1:]])
            for number in range(params.rounds):
                shares = await _round(way, table)
                found.append(shares)
                say(f"slowed {number + 1}/{params.rounds}: {_figures(shares)}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    every = [_figures(shares) for shares in found]
    figures = {name: sorted(each[name] for each in every)[len(every) // 2] for name in every[0]}
    extra = {"series": found[-1].series(), "slow_from_s": BEFORE_S, "slow_until_s": BEFORE_S + SLOW_S}
    about = {"instances": INSTANCES, "delay_ms": 2 * DELAY_S * 1000, "rate_eps": RATE_EPS}
    return Report(bench="slowed", params=params.to_dict() | about, fedbus=figures | extra)


def _start(directory: Path, name: str) -> ServerProcess:
    command = [sys.executable, "-m", "fedbus_actors.bus_instance", "--region", REGION, "--instance", name]
    command += ["--port", "0", "--data", str(directory / name)]
    return ServerProcess(f"bus instance {name}", command, directory / f"{name}.log")


def _table(endpoints: Sequence[str]) -> RoutingTable:
    routes = [InstanceRoute(f"{REGION}/b{n}", endpoint) for n, endpoint in enumerate(endpoints, 1)]
    return RoutingTable("bench", REGION, 1, [region_route(REGION, routes)])


async def _round(way: SlowWay, table: RoutingTable) -> Shares:
    """One run with a client of its own."""
    whole_s = BEFORE_S + SLOW_S + AFTER_S
    shares = Shares(round(whole_s / SLOT_S), f"{REGION}/b1")

    async def find() -> Bootstrap:
        return Bootstrap(table, REGION)

    hello = Hello(OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, "client", "bench-slowed", REGION, True)
    async with Bus(find, hello) as bus:
        await asyncio.gather(*(bus.publish("bench.warm", b"x") for _ in range(100)))
        began_ns = CLOCK.monotonic_ns()

        async def publish(due_s: float) -> None:
            receipt = await bus.publish("bench.slowed", b"x")
            shares.count(int(due_s / SLOT_S), receipt.instance)

        under_way = set()
        for number in range(round(whole_s * RATE_EPS)):
            due_s = number / RATE_EPS
            way.delay_s = DELAY_S if BEFORE_S <= due_s < BEFORE_S + SLOW_S else 0.0
            await asyncio.sleep(due_s - (CLOCK.monotonic_ns() - began_ns) / 1e9)
            task = asyncio.create_task(publish(due_s))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
    return shares


def _figures(shares: Shares) -> dict[str, float]:
    slow_from_s, slow_until_s = BEFORE_S, BEFORE_S + SLOW_S
    before = shares.share(1.0, slow_from_s)
    after = [share * INSTANCES for at_s, share in shares.series() if at_s >= slow_until_s]
    back = next((place for place, share in enumerate(after) if share >= BACK_SHARE), len(after))
    window = round(WINDOW_S / SLOT_S)
    left = [place for place in range(back, len(after), window) if _mean(after[place : place + window]) < LEFT_SHARE]
    return {
        "share_before": round(before, 3),
        "share_while_slow": round(shares.share(slow_from_s + SETTLED_S, slow_until_s), 4),
        "moved": round(1 - shares.share(slow_from_s + SETTLED_S, slow_until_s) / max(before, 1e-9), 4),
        "back_after_s": round(back * SLOT_S, 1),
        "share_after": round(_mean(after[back:]) / INSTANCES, 3),
        "left_again": len(left),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
