"""``bench route``: one routing decision, keyless and keyed, at 10 and at 1,000 instances."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median

from fedbus.keys import SLOTS
from fedbus.routing.router import Router
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.report import Report
from fedbus_loadtests.bench.system import CLOCK

SMALL, LARGE = 10, 1000
AT_ONCE = 200  # decisions between two looks at the clock
CHUNKS = 500


async def route(params: Params, say: Say) -> Report:
    """Medians over all rounds, in microseconds a decision."""
    found: dict[str, float] = {}
    for count in (SMALL, LARGE):
        router = _router(count)
        hashes = [random.getrandbits(32) | SLOTS for _ in range(AT_ONCE)]

        def keyless(router: Router = router) -> None:
            for _ in range(AT_ONCE):
                router.pick()

        def keyed(router: Router = router, hashes: list[int] = hashes) -> None:
            for each in hashes:
                router.owner(each)

        for name, decide in (("", keyless), ("keyed_", keyed)):
            found[f"{name}p50_us{'' if count == LARGE else f'_at_{count}'}"] = _median_us(decide, params.rounds)
    say(", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    growth = {
        "growth": round(found["p50_us"] / found[f"p50_us_at_{SMALL}"], 3),
        "keyed_growth": round(found["keyed_p50_us"] / found[f"keyed_p50_us_at_{SMALL}"], 3),
    }
    return Report(bench="route", params=params.to_dict() | {"instances": LARGE}, fedbus=found | growth)


def _router(count: int) -> Router:
    routes = [InstanceRoute(f"bench.local/b{n}", f"tcp://127.0.0.1:{20_000 + n}") for n in range(count)]
    router = Router("bench.local", random.Random())
    router.adopt(RoutingTable("bench", "bench.local", 1, [region_route("bench.local", routes)]))
    return router


def _median_us(decide: Callable[[], None], rounds: int) -> float:
    times = []
    for _ in range(rounds * CHUNKS):
        began_ns = CLOCK.monotonic_ns()
        decide()
        times.append((CLOCK.monotonic_ns() - began_ns) / AT_ONCE / 1000)
    return round(median(times), 3)
