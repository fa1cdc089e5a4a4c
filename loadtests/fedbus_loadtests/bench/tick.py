"""``bench tick``: one plan over 1,000 regions of 20 instances, on one core."""

from __future__ import annotations

import random
from statistics import median

from fedbus.control.capacity import InstanceSize
from fedbus.control.forecast.protocol import QUANTILES, Forecast
from fedbus.control.load import NS_PER_S
from fedbus.control.plan import plan
from fedbus.control.sla import Sla
from fedbus.control.view import InstanceView, ObservedLoad, RegionView, View
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.report import Report
from fedbus_loadtests.bench.system import CLOCK, Stopwatch

REGIONS, INSTANCES = 1000, 20
SLOT_S, SLOTS_AHEAD = 60, 60
CAPACITY_EPS = 20_000.0


async def tick(params: Params, say: Say) -> Report:
    """Seconds from view to plan; every region has forecast, SLA and its own load."""
    dice = random.Random(1)
    now_ns = CLOCK.now_ns()
    regions = tuple(_region(number, dice, now_ns) for number in range(REGIONS))
    seconds, directives = [], 0
    for generation in range(params.rounds):
        watch = Stopwatch()
        made = plan(View(now_ns=now_ns, generation=generation + 1, regions=regions))
        seconds.append(watch.seconds)
        directives = len(made.directives)
    say(f"{REGIONS} regions in {median(seconds):.3f} s, {directives} directives")
    size = {"regions": REGIONS, "instances": INSTANCES}
    figures = {"p50_s": round(median(seconds), 4), "directives": directives, "rounds": [round(s, 4) for s in seconds]}
    return Report(bench="tick", params=params.to_dict() | size, fedbus=figures)


def _region(number: int, dice: random.Random, now_ns: int) -> RegionView:
    name = f"bench.r{number}"
    load_eps = INSTANCES * CAPACITY_EPS * (0.3 + 0.5 * dice.random())
    path = tuple(load_eps * (0.9 + 0.2 * dice.random()) for _ in range(SLOTS_AHEAD))
    forecast = Forecast(
        region=name, made_at_ns=now_ns, start_ns=now_ns, slot_s=SLOT_S, model="bench", basis="model", point_eps=path,
        quantiles={quantile: tuple(value * (1 + quantile / 4) for value in path) for quantile in QUANTILES},
        normal_eps=path, prices={budget: load_eps / budget for budget in (0.0005, 0.005, 0.05)},
    )  # fmt: skip
    instances = tuple(
        InstanceView(
            id=f"{name}/b{n}", size="small", state="healthy", node=f"n{n % 4}", since_ns=now_ns - 3600 * NS_PER_S,
            load_eps=load_eps / INSTANCES,
        )
        for n in range(INSTANCES)
    )  # fmt: skip
    return RegionView(
        region=name, sizes=(InstanceSize("small", CAPACITY_EPS),), size="small", minimum=1, maximum=2 * INSTANCES,
        instances=instances, observed=ObservedLoad(now_ns, load_eps), forecast=forecast, slas=(Sla(">"),),
    )  # fmt: skip
