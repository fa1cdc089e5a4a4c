"""``bench link``: publishing in one region until it is durable in another, and how much later it is delivered there.

Compared with a region of its own in the same session: the same load, published and delivered there (``local``).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import ClassVar

from fedbus_loadtests.bench.bus_under_test import BusUnderTest
from fedbus_loadtests.bench.contest import Contest
from fedbus_loadtests.bench.linked_pair import LinkedPair
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.report import Report, figures, ratios
from fedbus_loadtests.bench.system import Load, Sample, System, random_payloads


class Local(BusUnderTest):
    """What there is without a link."""

    name: ClassVar[str] = "local"


async def link(params: Params, say: Say) -> Report:
    """Rates first, then latencies, the rounds of both interleaved."""

    async def publish(system: System, load: Load) -> Sample:
        return await system.publish(load)

    async def latency(system: System, load: Load) -> Sample:
        return await system.latency(load, params.rate_eps)

    payloads = random_payloads(max(params.payload_bytes, 16))
    async with AsyncExitStack() as stack:
        systems: list[System] = [await stack.enter_async_context(each) for each in (LinkedPair(), Local())]
        rates = Contest("link", systems, publish, Load(0, payloads), say)
        await rates.hold(params.rounds, params.events, params.round_s)
        events = int(params.rate_eps * params.round_s)
        times = Contest("link latency", systems, latency, Load(events, payloads), say)
        await times.hold(params.rounds, events, params.round_s)
        found = {each.name: figures(rates.samples[each.name], each.about("publish")) for each in systems}
        late = {each.name: figures(times.samples[each.name], each.about("latency")) for each in systems}
    for name, times_of in late.items():
        found[name] |= {key: value for key, value in times_of.items() if key.endswith("_ms")}
    ours = found.pop("link")
    added = {
        f"added_{share}_ms": round(ours[f"delivered_{share}_ms"] - found["local"][f"delivered_{share}_ms"], 3)
        for share in ("p50", "p99")
    }
    return Report(
        bench="link", params=params.to_dict(), fedbus=ours | added, peers=found,
        ratio=ratios(ours, found, "events_per_s"), more={"load_average": rates.load_average},
    )  # fmt: skip
