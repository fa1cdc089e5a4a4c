"""``bench failover``: kill -9 on a bus instance of a managed region, until the next acknowledged publish.

Several producers publish one event after the other, each waiting for its acknowledgement, keyless and with keys that
the killed instance owns. Counted is, for the kill, the longest wait of any keyless producer; keyed ones beside.
"""

from __future__ import annotations

import asyncio
import os
import signal

import psutil

from fedbus.client.bus import Bus
from fedbus.errors import EnvironmentUnusableError, FedbusError
from fedbus.keys import key_hash
from fedbus_loadtests.bench.bus_under_test import BusUnderTest
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.region_watch import RegionWatch
from fedbus_loadtests.bench.report import Report, quantile
from fedbus_loadtests.bench.system import CLOCK

PRODUCERS = 4
WARM_S = 1.0
RECOVER_S = 60.0
KEYS_TRIED = 10_000


async def failover(params: Params, say: Say) -> Report:
    """Milliseconds from kill to acknowledgement, over all rounds."""
    keyless: list[float] = []
    keyed: list[float] = []
    resident = 0
    async with BusUnderTest(replicas=params.replicas, instances=params.replicas + 1, managed=True) as system:
        assert system.region is not None, "the system is managed"
        for number in range(params.rounds):
            async with system.connect() as bus:
                victim, pid = await _victim(system.region, bus)
                resident = psutil.Process(pid).memory_info().rss
                keys = _keys_of(bus, victim)
                producers = [Publishing(bus, None) for _ in range(PRODUCERS)] + [Publishing(bus, key) for key in keys]
                await asyncio.sleep(WARM_S)
                killed_ns = CLOCK.monotonic_ns()
                os.kill(pid, signal.SIGKILL)
                waits = await asyncio.gather(*(each.next_after(killed_ns) for each in producers))
                for each in producers:
                    each.stop()
            keyless.append(max(waits[:PRODUCERS]))
            keyed.append(max(waits[PRODUCERS:]))
            waited = f"keyless {keyless[-1]:.0f} ms, keyed {keyed[-1]:.0f} ms"
            say(f"failover {number + 1}/{params.rounds}: {victim}: {waited}")
            await system.region.complete(without=pid)
    figures = {"instance_mib": round(resident / 2**20, 1)}
    for prefix, waits in (("", sorted(keyless)), ("keyed_", sorted(keyed))):
        figures[f"{prefix}p50_ms"] = round(quantile(waits, 0.5), 1)
        figures[f"{prefix}p99_ms"] = round(quantile(waits, 0.99), 1)
    return Report(bench="failover", params=params.to_dict() | {"instances": params.replicas + 1}, fedbus=figures)


class Publishing:
    """A producer that publishes one event after the other, with a key or without."""

    def __init__(self, bus: Bus, key: str | None) -> None:
        self._bus = bus
        self._key = key
        self._waiting: tuple[int, asyncio.Future[float]] | None = None
        self._task = asyncio.create_task(self._run())

    async def next_after(self, since_ns: int) -> float:
        """Milliseconds from that moment to the acknowledgement of an event published after it."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting = since_ns, future
        return await asyncio.wait_for(future, RECOVER_S)

    def stop(self) -> None:
        """End it."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            sent_ns = CLOCK.monotonic_ns()
            try:
                await self._bus.publish("bench.failover", b"x", key=self._key)
            except FedbusError:
                continue
            if self._waiting is not None and sent_ns >= self._waiting[0] and not self._waiting[1].done():
                self._waiting[1].set_result((CLOCK.monotonic_ns() - self._waiting[0]) / 1e6)
            await asyncio.sleep(0)


async def _victim(region: RegionWatch, bus: Bus) -> tuple[str, int]:
    """An instance that takes events, and its process."""
    taking = set(bus.taking_instances())
    for name, pid in (await region.processes()).items():
        if name in taking:
            return name, pid
    raise EnvironmentUnusableError(f"none of {sorted(taking)} has a process")


def _keys_of(bus: Bus, instance: str) -> list[str]:
    keys = (f"customer-{number}" for number in range(KEYS_TRIED))
    owned = [key for key in keys if bus.router.owner(key_hash(key)).instance == instance]
    return owned[:PRODUCERS]
