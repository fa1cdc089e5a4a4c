"""``bench consume``: a durable group takes what is stored and acknowledges every event, in both ack classes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from fedbus_loadtests.bench.contest import Contest
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.peers.nats import Nats
from fedbus_loadtests.bench.report import Report, figures, ratios
from fedbus_loadtests.bench.system import Load, Sample, System, random_payloads

STORED = 200_000  # consumed again and again, each time by a new group
ACKS = {False: "buffered ack", True: "durable ack, waited for"}


async def consume(params: Params, say: Say) -> Report:
    """Buffered against ``ack`` (``ratio``), durable against ``ack_sync`` (``ratio_durable``)."""
    stored = params.events or STORED
    shape = Load(stored, random_payloads(params.payload_bytes))
    classes: dict[bool, dict[str, dict[str, Any]]] = {}
    async with AsyncExitStack() as stack:
        systems = [await stack.enter_async_context(each) for each in params.systems(nats_syncs=False)]
        for system in systems:
            await system.fill(shape)
        load_average = 0.0
        for durable, name in ACKS.items():
            contest = Contest("consume", systems, partial(_consume, durable=durable), shape, say, most=stored)
            await contest.hold(params.rounds, params.events, params.round_s)
            load_average = load_average or contest.load_average
            classes[durable] = {
                each.name: figures(contest.samples[each.name], each.about("consume")) | {"ack": name}
                for each in systems
            }
        for system in systems:
            if isinstance(system, Nats):
                classes[False]["nats"]["push"] = await _pushed(
                    system, params.rounds, Load(classes[False]["nats"]["events"], shape.payloads), say
                )
    buffered, durably = classes[False], classes[True]
    for name, found in buffered.items():
        found["durable"] = durably[name]
    ours, own_durable = buffered.pop("fedbus"), durably.pop("fedbus")
    return Report(
        bench="consume",
        params=params.to_dict() | {"stored": stored},
        fedbus=ours,
        peers=buffered,
        ratio=ratios(ours, buffered, "events_per_s"),
        more={
            "ratio_durable": ratios(own_durable, durably, "events_per_s"),
            "ratio_push": ratios(ours, {n: peer.get("push", {}) for n, peer in buffered.items()}, "events_per_s"),
            "load_average": load_average,
        },
    )


async def _pushed(nats: Nats, rounds: int, shape: Load, say: Say) -> dict[str, Any]:
    """A push consumer, reported beside."""
    loads = [Load(shape.events, shape.payloads, name=f"pushed-{number}") for number in range(rounds)]
    samples = [await nats.consume_pushed(load) for load in loads]
    say(f"nats pushed: {', '.join(f'{sample.events_per_s:,.0f}' for sample in samples)} events/s")
    return figures(samples, nats.about("consume"))


async def _consume(system: System, load: Load, *, durable: bool) -> Sample:
    return await system.consume(load, durable=durable)
