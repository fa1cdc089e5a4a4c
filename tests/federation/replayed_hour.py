"""An hour of a trace, replayed at speed into real instances; a process of its own, because Ray has to start with it.

``python -m tests.federation.replayed_hour DIRECTORY SEED PORT INSTANCE_PORT``. The load model stands in for a trace:
two weeks of its minutes are the region's history, the hour after them is published; out of the quiet night the load
doubles. What came of it is in the region's store.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from fedbus.clock import NS_PER_S
from fedbus.control.load_model import MINUTE_NS, LoadModel
from fedbus.options import FederationOptions
from fedbus.options.federation import LOCAL_REGIONS
from fedbus.storage.data_directory import DataDirectory
from fedbus.storage.store import Store
from fedbus_loadtests.demo.clock import DemoClock

FEDERATION, REGION = "replayed", "onprem.berlin"
SPEED = 60.0
HOUR_NS = 60 * MINUTE_NS
#: Wednesday, 2025-06-25, at one in the morning; the model's load is lowest half an hour before.
START_NS = 1_749_427_200 * NS_PER_S + 16 * 24 * HOUR_NS + HOUR_NS
HISTORY_DAYS = 14
SLOT_S = 300
#: Real seconds that an instance may take to start, on busy cores.
LEAD_REAL_S = 15.0
FORECAST_LIMIT_S = 200.0
LOOK_S, TICK_S = 0.5, 0.05
_BATCH = 100


def load_model(seed: int) -> LoadModel:
    """The region's load, in events/s of the replayed clock; a hundred and more real ones at the end of the hour."""
    return LoadModel(seed=seed, mean_eps=11.0, day_swing=0.85, noise=0.03, wander=0.03, weekend_factor=0.9)


def capacity_eps(model: LoadModel) -> float:
    """What one instance is declared to hold: the load of three quarters into the hour is more."""
    return model.rate_eps(START_NS + 45 * MINUTE_NS)


def options(directory: Path, seed: int, port: int, instance_port: int) -> FederationOptions:
    """One region of small instances, waits short enough for the clock."""

    def replayed(real_s: float) -> str:
        return f"{round(real_s * SPEED)}s"

    region: dict[str, Any] = LOCAL_REGIONS[REGION] | {
        "listen": {"ports": f"{instance_port}-{instance_port + 19}"},
        "sizes": {"tiny": {"events_per_s": capacity_eps(load_model(seed))}},
        "instances": {"min": 1, "max": 4, "initial": 1, "size": "tiny"},
    }
    return FederationOptions.model_validate({
        "name": FEDERATION,
        "regions": {REGION: region},
        "gateway": {"port": port},
        "slas": [{"filter": ">", "latency": "1s", "availability": 0.95}],
        "forecasting": {
            "slot": f"{SLOT_S}s", "step": f"{SLOT_S}s", "lead": replayed(LEAD_REAL_S), "interval": "1s",
            "horizon": "1h", "history": f"{HISTORY_DAYS + 1}d",
        },
        "manager": {
            "tick_interval": replayed(0.5), "scale_in_window": "2h", "repair_after": replayed(20),
            "brake": replayed(12), "target_utilization": 0.95, "neighbour_reserve": False, "calibrate": False,
        },
        "groups": {"standbys": 0},
        "data": {"directory": str(directory / "data")},
    })  # fmt: skip


def open_store(directory: Path) -> Store:
    """The region's store; only while nobody manages the region."""
    return Store(DataDirectory(directory / "data", FEDERATION).region(REGION).store_path, START_NS)


async def replay(url: str, clock: DemoClock, model: LoadModel) -> None:
    """Publish what the model says until the hour is over; time runs fast once a forecast stands."""
    # These import Ray, whose environment is prepared by launch.
    import fedbus
    from fedbus.event import Event
    from fedbus_loadtests.demo.control_plane import ControlPlane

    async def forecast_stands(plane: ControlPlane) -> None:
        while not (await plane.look())[REGION].has_forecast:
            await plane.hurry()
            await asyncio.sleep(LOOK_S)

    async with fedbus.connect(url, region=REGION, source="/replayed") as bus:
        producer = bus.producer()
        standing = asyncio.create_task(
            asyncio.wait_for(forecast_stands(ControlPlane(FEDERATION, [REGION])), FORECAST_LIMIT_S)
        )
        number, owed, last_ns = 0, 0.0, clock.now_ns()
        while (now_ns := clock.now_ns()) < START_NS + HOUR_NS + SLOT_S * NS_PER_S:
            if standing.done() and not clock.began:
                standing.result()
                clock.begin()
            owed += model.events(now_ns // MINUTE_NS) / 60 * (now_ns - last_ns) / NS_PER_S
            last_ns, count = now_ns, min(_BATCH, int(owed))
            owed -= count
            events = [
                Event(id=f"{number + n}", source="/replayed", type="replayed", payload=b"{}") for n in range(count)
            ]
            number += count
            await producer.publish_events([("replayed.hour", event) for event in events])
            await asyncio.sleep(TICK_S)


def main(directory: Path, seed: int, port: int, instance_port: int) -> None:
    """The whole of it."""
    from fedbus_actors.launch import launch

    model = load_model(seed)
    store = open_store(directory)
    store.load_history.record(REGION, 60, model.samples(START_NS - HISTORY_DAYS * 24 * HOUR_NS, START_NS))
    store.close()
    clock = DemoClock(directory / "clock", START_NS, SPEED)
    federation = launch(options(directory, seed, port, instance_port), clock=clock, progress=print)
    federation.start()
    try:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(replay(federation.url, clock, model))
    finally:
        federation.stop()
    print(msgspec.json.encode({"ended_ns": clock.now_ns()}).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
