"""Contests interleave rounds, choose the best tuning, and load loops are open."""

import asyncio
from types import MappingProxyType

import pytest

from fedbus.errors import UnavailableError
from fedbus_loadtests.bench.contest import Contest
from fedbus_loadtests.bench.crowd import Crowd
from fedbus_loadtests.bench.open_loop import OpenLoop
from fedbus_loadtests.bench.system import About, Load, Sample, System, random_payloads


class Fake(System):
    """A system whose rate is what it is told, by tuning."""

    choices = MappingProxyType({"publish": ({"window": 1}, {"window": 2}, {"window": 3})})

    def __init__(self, name, rates, log):
        super().__init__()
        self.name, self._rates, self._log = name, rates, log

    async def start(self): ...

    async def stop(self): ...

    def about(self, verb):
        return About("1", "none", "1 of 1")

    async def publish(self, load):
        self._log.append((self.name, load.events, load.name))
        return Sample(load.events, load.events / self._rates[self.tuning.get("window", 1) - 1])


async def run(system, load):
    return await system.publish(load)


async def hold(events):
    log = []
    systems = [Fake("a", [100, 300, 200], log), Fake("b", [10_000, 30_000, 40_000], log)]
    contest = Contest("publish", systems, run, Load(0, random_payloads(16, 10)), lambda _: None)
    await contest.hold(3, events, 2.0)
    return systems, contest, log


async def test_rounds_are_interleaved_and_the_best_tuning_is_used():
    systems, contest, log = await hold(500)
    assert [name for name, _, _ in log[-6:]] == ["a", "b"] * 3
    assert [system.tuning for system in systems] == [{"window": 2}, {"window": 3}]
    assert [sample.events_per_s for sample in contest.samples["b"]] == [40_000] * 3
    assert len({name for *_, name in log}) == len(log)  # no group is used twice


async def test_everybody_gets_what_takes_a_round():
    _, contest, _ = await hold(None)
    assert contest.samples["a"][0].events == 600
    assert contest.samples["b"][0].events == 80_000


async def test_an_open_loop_counts_from_the_time_an_event_was_due():
    run = OpenLoop(Load(30, random_payloads(16, 10)), 2000.0)
    gate = asyncio.Event()
    numbers = []

    async def send(payload):
        numbers.append(int.from_bytes(payload[:8]))
        if len(numbers) == 30:
            gate.set()
        await gate.wait()  # a stall that delays everybody
        run.delivered(payload)
        run.delivered(payload)  # again: counts once

    sample = await run.run(send)
    assert sorted(numbers) == list(range(30))
    assert sample.acknowledged_ms[0] >= 29 * 0.5  # the first waited until the last was due
    assert sample.delivered_ms[0] >= 29 * 0.5


async def test_a_failed_send_fails_the_run():
    async def send(_):
        raise UnavailableError("no")

    with pytest.raises(UnavailableError, match="no"):
        await OpenLoop(Load(5, random_payloads(16, 5)), 2000.0).run(send)


async def test_a_crowd_is_never_further_behind_than_its_window():
    crowd = Crowd(2, 64)
    ahead = []
    published = 0

    async def send(_):
        nonlocal published
        published += 1
        ahead.append(published - crowd.count // 2)
        if published % 10 == 0:
            asyncio.get_running_loop().call_soon(lambda: [crowd.arrived() for _ in range(20)])

    sample = await crowd.run(Load(200, random_payloads(16, 10)), send)
    assert sample.events == 400
    assert max(ahead) <= 64 + 32 + 10
