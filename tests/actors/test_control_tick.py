"""The tick without Ray: what is measured becomes memory, the memory and the load become directives with their why."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from fedbus.broker.status import BrokerStatus
from fedbus.clock import ManualClock
from fedbus.control.forecast.protocol import QUANTILES, Forecast
from fedbus.control.outlook import Outlook
from fedbus.options import FederationOptions
from fedbus.storage.store import Store
from fedbus_actors.control_tick import ControlTick
from fedbus_actors.pinned_instance import InstanceReport, Usage
from fedbus_actors.region_load import RegionLoad

REGION = "onprem.berlin"
NOW_NS = 1_772_452_800_000_000_000
TICK_S = 5
COUNTERS = {"events_in": 0, "linked_events": 0, "bytes_in": 0, "linked_bytes": 0, "events_out": 0}


class Member:
    """An instance that reports what the test says."""

    def __init__(self, name, size="small"):
        self.record = SimpleNamespace(id=name, size=size, node="n1")
        self.state, self.fresh = "healthy", True
        self.vital = SimpleNamespace(health=SimpleNamespace(since_ns=NOW_NS), round_trip_ms=2.0)
        self.counters = dict(COUNTERS)
        self.cpu_share = 0.1

    def reports(self, now_ns, events, bytes_=0):
        self.counters["events_in"] += events
        self.counters["bytes_in"] += bytes_
        status = BrokerStatus(
            self.record.id, f"{REGION}/{self.record.id}/1", "healthy", {}, [], [], {}, 0, dict(self.counters)
        )
        self.report = InstanceReport(status, Usage(self.cpu_share, 0, 0.0, 0.0), 24000, 1, "u", NOW_NS, now_ns)


class World:
    """One region whose instances take what the test gives them; nothing that is ordered ever comes."""

    def __init__(self, path, **manager):
        sizes = {"small": {"events_per_s": 1000}, "large": {"events_per_s": 4000, "cost": 3}}
        options = FederationOptions.model_validate({
            "regions": {REGION: {"sizes": sizes, "instances": {"max": 10, "size": "small"}}}, "manager": manager
        })  # fmt: skip
        self.clock, self.members = ManualClock(NOW_NS), {"b1": Member("b1")}
        self.store = Store(path / "store.db", NOW_NS)
        self.load = RegionLoad(REGION, options.forecasting, self.store, self.clock)
        self.load._real = self.clock
        self.said, self.begun = [], []
        self.region = SimpleNamespace(
            name=REGION, options=options, own_options=options.regions[REGION], clock=self.clock, real=self.clock,
            store=self.store, epoch=1, load=self.load, outlook=Outlook(REGION), decision=None, explanation="",
            fleet=SimpleNamespace(members=self.members, begin=self.begun.append),
            resources=SimpleNamespace(collect=lambda _: None),
            forecasts=SimpleNamespace(step=lambda *_: None, forecast=None, lead_s=60.0),
            peering=SimpleNamespace(summaries={}), capacity=SimpleNamespace(serve=lambda *_: None),
            triggers=tuple, slas=tuple, note=lambda kind, message: self.said.append((kind, message)),
        )  # fmt: skip
        self.tick = ControlTick(self.region)

    def run(self, seconds, eps, bps=0.0):
        for _ in range(seconds // TICK_S):
            self.clock.advance(TICK_S)
            for member in self.members.values():
                share = 1 / len(self.members)
                member.reports(self.clock.now_ns(), round(TICK_S * eps * share), round(TICK_S * bps * share))
            self.tick.run()

    @property
    def memory(self):
        return self.store.memories.get(REGION)


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()


def test_every_directive_and_the_region_say_why_in_words_and_as_data(tmp_path):
    world = World(tmp_path, calibrate=False)
    world.run(120, 2500.0)
    assert {each.action for each in world.begun} == {"create"}
    order = world.begun[-1]
    assert "observed load is 2.5k events/s = 4 × 700 events/s" in order.reason
    assert order.decision.decisive.cause == "reactive"
    assert world.region.decision.target == 4
    assert [(each.size, each.instances) for each in world.region.decision.sizes] == [("large", 1), ("small", 4)]
    assert world.store.directives.recent(REGION, 1)[0].decision is not None
    world.store.close()


def test_minutes_in_which_the_load_was_too_much_are_counted_once(world):
    world.run(600, 500.0)
    assert world.memory.violations.violated == 0
    assert world.memory.violations.minutes >= 8
    world.run(300, 900.0)  # one instance holds 700 at the latency promised
    found = world.memory.violations
    assert 4 <= found.violated <= 6
    assert found.minutes <= 15


def test_minutes_violated_although_the_forecast_decided_teach_the_plan_to_provide_more(world):
    world.run(300, 900.0)
    assert world.memory.violations.violated >= 2
    assert world.memory.assurance.excess == 0.0, "there was no forecast to blame"
    path = (500.0,) * 12
    world.region.forecasts.forecast = Forecast(
        region=REGION, made_at_ns=world.clock.now_ns(), start_ns=world.clock.now_ns(), slot_s=300, model="profile",
        basis="model", point_eps=path, quantiles=dict.fromkeys(QUANTILES, path), normal_eps=path,
    )  # fmt: skip
    world.run(300, 900.0)
    learned = world.memory.assurance
    assert learned.planned_budget < learned.budget == pytest.approx(0.001)
    assert world.region.decision.minutes_violated == world.memory.violations.violated


def test_a_size_whose_cpu_is_full_is_planned_for_less_and_the_plan_says_so(world):
    world.members["b1"].cpu_share = 0.85
    world.run(900, 400.0)
    decision = world.region.decision
    small = next(each for each in decision.sizes if each.size == "small")
    assert small.basis.startswith("calibrated: 4")
    assert small.events_per_s == pytest.approx(0.7 * 400, rel=0.05)
    assert decision.decisive.instances == 2


def test_declared_capacities_stand_where_calibration_is_switched_off(tmp_path):
    world = World(tmp_path, calibrate=False)
    world.members["b1"].cpu_share = 0.85
    world.run(900, 400.0)
    assert {each.basis for each in world.region.decision.sizes} == {"declared"}
    assert world.memory.calibrations == {}
    world.store.close()


def test_what_was_learned_survives_the_manager(world):
    world.members["b1"].cpu_share = 0.85
    world.run(900, 900.0)
    before = world.memory
    world.tick = ControlTick(world.region)
    world.run(10, 900.0)
    assert world.memory.violations.minutes >= before.violations.minutes
    assert world.memory.calibrations["small"].events.share == pytest.approx(
        before.calibrations["small"].events.share, rel=0.05
    )
    assert msgspec.json.decode(msgspec.json.encode(before), type=type(before)) == before
