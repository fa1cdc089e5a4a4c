"""``bench publish``: one producer, everything acknowledged; and the same to many topics: ``bench topics``."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from fedbus_loadtests.bench.bus_under_test import BusUnderTest
from fedbus_loadtests.bench.contest import Contest
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.peers.nats import Nats
from fedbus_loadtests.bench.report import Report, figures, ratios
from fedbus_loadtests.bench.system import Load, Sample, System, random_payloads

BATCHES = (1, 3, 10, 30, 100, 300, 1000, 3000)
SWEEP_SHARE = 8  # a batch size gets this fraction of a round
BATCHES_AT_LEAST = 400


async def publish(params: Params, say: Say) -> Report:
    """The bar is JetStream as it comes, without fsync; with several copies it has to sync as ours does."""
    shape = Load(0, random_payloads(params.payload_bytes))
    return await _compare("publish", params, shape, say, nats_syncs=params.replicas > 1, sweep=True)


async def topics(params: Params, say: Say) -> Report:
    """Events spread at random over many topics; JetStream syncs as ours does."""
    names = [f"bench.topics.t{number}" for number in range(params.topics)]
    return await _compare("topics", params, Load(0, random_payloads(params.payload_bytes), names), say, nats_syncs=True)


async def _compare(
    bench: str, params: Params, shape: Load, say: Say, *, nats_syncs: bool, sweep: bool = False
) -> Report:
    async with AsyncExitStack() as stack:
        systems = [await stack.enter_async_context(each) for each in params.systems(nats_syncs=nats_syncs)]
        contest = Contest("publish", systems, _publish, shape, say)
        await contest.hold(params.rounds, params.events, params.round_s)
        found = {each.name: figures(contest.samples[each.name], each.about(bench)) for each in systems}
        for system in systems:
            if isinstance(system, BusUnderTest) and sweep:
                found["fedbus"]["by_batch"] = await _by_batch(system, found["fedbus"]["events"], shape, say)
            if isinstance(system, Nats):
                found["nats"] |= await _atomic(system, params.rounds, found["nats"]["events"], shape, say)
    ours = found.pop("fedbus")
    atomic = ratios(ours, {name: peer.get("atomic", {}) for name, peer in found.items()}, "events_per_s")
    return Report(
        bench=bench, params=params.to_dict(), fedbus=ours, peers=found, ratio=ratios(ours, found, "events_per_s"),
        more={"load_average": contest.load_average} | ({"ratio_atomic": atomic} if atomic else {}),
    )  # fmt: skip


async def _publish(system: System, load: Load) -> Sample:
    return await system.publish(load)


async def _by_batch(system: BusUnderTest, events: int, shape: Load, say: Say) -> list[list[float]]:
    """Throughput of our producer by its batch size."""
    found = []
    for batch in BATCHES:
        system.tuning = {"batch_events": batch}
        load = Load(max(100, min(events // SWEEP_SHARE, batch * BATCHES_AT_LEAST)), shape.payloads, shape.topics)
        found.append([batch, round((await system.publish(load)).events_per_s, 1)])
    system.tuning = {}
    say(f"fedbus by batch size: {', '.join(f'{batch:.0f}: {rate:,.0f}/s' for batch, rate in found)}")
    return found


async def _atomic(nats: Nats, rounds: int, events: int, shape: Load, say: Say) -> dict[str, Any]:
    """Atomic batch publish, reported beside."""
    samples = []
    for number in range(rounds):
        sample = await nats.publish_atomically(Load(events, shape.payloads, shape.topics, f"atomic-{number}"))
        if sample is None:
            return {}
        samples.append(sample)
    say(f"nats atomic batches: {', '.join(f'{sample.events_per_s:,.0f}' for sample in samples)} events/s")
    return {"atomic": figures(samples, nats.about("publish"))}
