"""``bench latency``: single events in an open loop, publish → acknowledged and → delivered."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fedbus_loadtests.bench.contest import Contest
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.report import Report, figures, ratios
from fedbus_loadtests.bench.system import Load, Sample, System, random_payloads


async def latency(params: Params, say: Say) -> Report:
    """All systems sync before they acknowledge, but those that cannot."""

    async def run(system: System, load: Load) -> Sample:
        return await system.latency(load, params.rate_eps)

    events = params.events or int(params.rate_eps * params.round_s)
    async with AsyncExitStack() as stack:
        systems = [await stack.enter_async_context(each) for each in params.systems(nats_syncs=True)]
        contest = Contest("latency", systems, run, Load(events, random_payloads(max(params.payload_bytes, 16))), say)
        await contest.hold(params.rounds, events, params.round_s)
        found = {each.name: figures(contest.samples[each.name], each.about("latency")) for each in systems}
    ours = found.pop("fedbus")
    return Report(
        bench="latency",
        params=params.to_dict() | {"events": events},
        fedbus=ours,
        peers=found,
        ratio=ratios(ours, found, "p50_ms"),
        more={
            "ratio_p99": ratios(ours, found, "p99_ms"),
            "ratio_delivered": ratios(ours, found, "delivered_p50_ms"),
            "ratio_delivered_p99": ratios(ours, found, "delivered_p99_ms"),
            "load_average": contest.load_average,
        },
    )
