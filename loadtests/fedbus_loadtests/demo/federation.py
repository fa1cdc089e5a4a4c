"""The demonstration's federation: small instances, waits short enough for a fast clock, history before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedbus.event import format_time_ns
from fedbus.options import FederationOptions
from fedbus.options.federation import LOCAL_REGIONS
from fedbus.storage.data_directory import DataDirectory
from fedbus.storage.store import Store
from fedbus_loadtests.demo.scenario import SITES, Scenario
from fedbus_loadtests.demo.window import HISTORY_DAYS

FEDERATION = "demo"
SIZE = "tiny"
MOST_INSTANCES = 4
PORTS_PER_REGION = 50
#: Real seconds. Starting an instance takes three to six on two busy cores; the plan acts that far ahead.
LEAD_REAL_S = 10.0
_TICK_REAL_S = 0.5
_SCALE_IN_REAL_S = 7.0
_AGAIN_REAL_S = 12.0
_REPAIR_REAL_S = 20.0
_LOOK_AHEAD_S = 1800.0


def demo_options(scenario: Scenario, data: Path, port: int, instance_port: int) -> FederationOptions:
    """The federation file of the demonstration. Ports of instances: 50 per region from ``instance_port`` on."""

    def simulated(real_s: float) -> str:
        return f"{round(real_s * scenario.speed)}s"

    lead_s = max(scenario.step_s, round(LEAD_REAL_S * scenario.speed))
    step = f"{scenario.step_s}s"
    return FederationOptions.model_validate(
        {
            "name": FEDERATION,
            "regions": {
                site.region: _region(site.region, instance_port + place * PORTS_PER_REGION, scenario.capacity_eps)
                for place, site in enumerate(SITES)
            },
            "gateway": {"port": port},
            "triggers": [
                {
                    "name": trigger.name, "region": trigger.region, "factor": trigger.expected_factor,
                    "start": format_time_ns(trigger.start_ns), "end": format_time_ns(trigger.end_ns),
                }
                for trigger in scenario.triggers
            ],
            # An hour is played in minutes, with instances of a few events/s: three nines of it would be luck.
            "slas": [{"filter": ">", "availability": 0.95}],
            "forecasting": {
                "slot": step, "step": step, "lead": f"{lead_s}s", "interval": "1s",
                "horizon": f"{max(lead_s, round(_LOOK_AHEAD_S)) + 3 * scenario.step_s}s",
                "history": f"{HISTORY_DAYS + 1}d",
            },
            "manager": {
                "tick_interval": simulated(_TICK_REAL_S), "drain_deadline": "10s",
                "scale_in_window": simulated(_SCALE_IN_REAL_S), "scale_in_pause": simulated(_SCALE_IN_REAL_S),
                "scale_out_pause": simulated(_AGAIN_REAL_S), "repair_after": simulated(_REPAIR_REAL_S),
                "brake": simulated(_AGAIN_REAL_S),
                # Three regions share one machine here: room for a lost one would be taken from those that are left.
                "neighbour_reserve": False,
                # What an instance is declared to hold is made up here, so that a small load needs several.
                "calibrate": False,
            },
            "groups": {"standbys": 0},  # … and who stands by pulls all that the home has: nobody could take its place
            "data": {"directory": str(data)},
        }
    )  # fmt: skip


def _region(region: str, first_port: int, capacity_eps: float) -> dict[str, Any]:
    return LOCAL_REGIONS[region] | {
        "listen": {"ports": f"{first_port}-{first_port + PORTS_PER_REGION - 1}"},
        "sizes": {SIZE: {"events_per_s": capacity_eps}},
        "instances": {"min": 1, "max": MOST_INSTANCES, "initial": 1, "size": SIZE},
    }


def backfill(options: FederationOptions, scenario: Scenario) -> None:
    """Write the days before the window into each region's store, as if its manager had measured them."""
    directory = DataDirectory(options.data.root, options.name)
    for site in SITES:
        store = Store(directory.region(site.region).store_path, scenario.window.start_ns, options.limits)
        try:
            store.load_history.record(site.region, scenario.step_s, scenario.history(site))
        finally:
            store.close()
