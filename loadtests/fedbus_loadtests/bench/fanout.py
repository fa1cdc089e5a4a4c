"""``bench fanout``: every event to many connections of one process; the peers keep it in memory, ours stores it."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fedbus_loadtests.bench.contest import Contest
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.report import Report, figures, ratios
from fedbus_loadtests.bench.system import Load, Sample, System, random_payloads


async def fanout(params: Params, say: Say) -> Report:
    """Counted are deliveries to user code."""

    async def run(system: System, load: Load) -> Sample:
        return await system.fanout(load, params.connections)

    events = params.events or max(200, int(1000 * params.round_s))
    async with AsyncExitStack() as stack:
        systems = [await stack.enter_async_context(each) for each in params.systems(nats_syncs=False)]
        contest = Contest("fanout", systems, run, Load(events, random_payloads(params.payload_bytes)), say)
        await contest.hold(params.rounds, events, params.round_s)
        found = {each.name: figures(contest.samples[each.name], each.about("fanout")) for each in systems}
    ours = found.pop("fedbus")
    return Report(
        bench="fanout",
        params=params.to_dict() | {"events": events},
        fedbus=ours,
        peers=found,
        ratio=ratios(ours, found, "events_per_s"),
        more={"load_average": contest.load_average},
    )
