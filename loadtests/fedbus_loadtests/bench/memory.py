"""``bench memory``: resident memory of an instance: idle, and with many topics and live subscriptions."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import psutil

from fedbus_loadtests.bench.bus_under_test import BusUnderTest
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.report import Report
from fedbus_loadtests.bench.system import random_payloads

MIB = 2**20
SUBSCRIPTIONS, CONNECTIONS = 1000, 10
SETTLE_S = 1.0


async def memory(params: Params, say: Say) -> Report:
    """MiB of one instance in a process of its own."""
    async with BusUnderTest() as system, AsyncExitStack() as stack:
        assert system.server is not None, "an instance of its own has a process"
        process = psutil.Process(system.server.pid)
        await asyncio.sleep(SETTLE_S)
        idle = process.memory_info().rss
        bus = await stack.enter_async_context(system.connect())
        payloads = random_payloads(params.payload_bytes, 100)
        async with bus.producer() as producer:
            for number in range(params.topics):
                await producer.send(f"bench.topics.t{number}", payloads[number % 100])
        with_topics = process.memory_info().rss
        for first in range(0, SUBSCRIPTIONS, SUBSCRIPTIONS // CONNECTIONS):
            other = await stack.enter_async_context(system.connect())
            for number in range(first, first + SUBSCRIPTIONS // CONNECTIONS):
                await stack.enter_async_context(other.subscribe(f"bench.topics.t{number}"))
        await asyncio.sleep(SETTLE_S)
        full = process.memory_info().rss
    figures = {
        "idle_mib": round(idle / MIB, 1), "topics_add_mib": round((with_topics - idle) / MIB, 1),
        "subscriptions_add_mib": round((full - with_topics) / MIB, 1), "added_mib": round((full - idle) / MIB, 1),
    }  # fmt: skip
    say(str(figures))
    return Report(bench="memory", params=params.to_dict() | {"subscriptions": SUBSCRIPTIONS}, fedbus=figures)
