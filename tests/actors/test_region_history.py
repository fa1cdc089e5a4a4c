"""What a manager keeps of its region's past: resource metrics and capacity, in the store and across managers."""

from __future__ import annotations

from contextlib import closing

import pytest

from fedbus.broker.status import BrokerStatus
from fedbus.clock import ManualClock
from fedbus.options.control import ForecastingOptions
from fedbus.storage.store import CapacityStep, Store
from fedbus_actors.fleet import Member
from fedbus_actors.pinned_instance import InstanceReport, Usage
from fedbus_actors.region_capacity import RegionCapacity
from fedbus_actors.region_load import RegionLoad
from fedbus_actors.region_resources import RegionResources

REGION = "onprem.berlin"
MINUTE_NS = 60_000_000_000
DAY_NS = 1_700_000_000_000_000_000 // (1440 * MINUTE_NS) * (1440 * MINUTE_NS)
EVER = (0, 2**62)


@pytest.fixture
def clock():
    return ManualClock(DAY_NS)


@pytest.fixture
def store(tmp_path):
    with closing(Store(tmp_path / "store.db", DAY_NS)) as opened:
        yield opened


class Instances:
    """Instances that report what a test says they use."""

    def __init__(self, store, clock):
        self._store, self._clock = store, clock
        self.members = []

    def start(self, node):
        record = self._store.instances.create(REGION, "small", (24_000, 24_099), DAY_NS, node=node)
        self.members.append(Member(record, None, self._clock))

    def report(self, *usages):
        for member, usage in zip(self.members, usages, strict=True):
            member.fresh = usage is not None
            if usage is not None:
                counters = dict.fromkeys(
                    ("events_in", "events_out", "linked_events", "linked_bytes", "bytes_in"), usage.memory_bytes
                )
                ledger = f"{member.name}/1"
                status = BrokerStatus(member.name, ledger, "healthy", {}, [], [], {}, 0, counters)
                now_ns = self._clock.now_ns()
                member.report = InstanceReport(status, usage, 24_000, 1, "u", DAY_NS, now_ns)


@pytest.fixture
def instances(store, clock):
    return Instances(store, clock)


def test_resources_of_instances_and_of_the_region_are_stored_minute_by_minute(store, clock, instances):
    resources = RegionResources(REGION, 60, store, clock)
    for node in ("n1", "n1", "n2"):
        instances.start(node)
    for cpu in (0.2, 0.4):
        instances.report(*[Usage(cpu, 100, 10.0, 1.0)] * 3)
        resources.collect(instances.members)
        clock.advance(30)
    instances.report(Usage(0.9, 100, 10.0, 1.0), None, None)  # the others are waited for: their last words hold
    resources.collect(instances.members)
    assert resources.cpu_share == {"b1": 0.9, "b2": 0.4, "b3": 0.4}
    (of_one,) = store.resource_metrics.between("instance/b1", 60, *EVER)
    assert (of_one.time_ns, of_one.readings, of_one.cpu_share_peak) == (DAY_NS, 2, 0.4)
    (of_all,) = store.resource_metrics.between(f"region/{REGION}", 60, *EVER)
    assert of_all.cpu_share == pytest.approx(0.9)
    assert (of_all.memory_bytes, of_all.received_bytes_per_s) == (300.0, 20.0)  # two nodes, not three
    clock.advance(60)
    resources.collect(instances.members[:1])
    assert list(resources.latest) == ["b1"]
    assert store.resource_metrics.between(f"region/{REGION}", 60, *EVER)[1].cpu_share == pytest.approx(1.7)


def test_nothing_is_stored_where_nobody_reports(store, clock, instances):
    resources = RegionResources(REGION, 60, store, clock)
    instances.start("n1")
    for _ in range(3):
        resources.collect(instances.members)
        clock.advance(60)
    assert store.resource_metrics.between(f"region/{REGION}", 60, *EVER) == []


def test_capacity_is_kept_in_steps_across_managers(store):
    capacity = RegionCapacity(REGION, store, DAY_NS)
    assert capacity.at(DAY_NS) is None
    for minute, eps, count in ((0, 100.0, 1), (1, 100.5, 1), (2, 200.0, 2), (3, 200.0, 2), (4, 200.0, 1)):
        capacity.serve(DAY_NS + minute * MINUTE_NS, eps, count)
    expected = [CapacityStep(DAY_NS, 100.0, 1), CapacityStep(DAY_NS + 2 * MINUTE_NS, 200.0, 2)]
    assert list(capacity.steps)[:2] == expected  # what an instance holds is learned: a little more is no step
    assert [capacity.at(DAY_NS + minute * MINUTE_NS) for minute in (-1, 0, 1, 2, 9)] == [
        None,
        100.0,
        100.0,
        200.0,
        200.0,
    ]
    again = RegionCapacity(REGION, store, DAY_NS + 5 * MINUTE_NS)
    assert again.steps == capacity.steps


def test_load_is_rolled_up_as_it_is_measured_and_forgotten_by_resolution(store, clock, instances):
    options = ForecastingOptions(
        slot="1m", lead="1m", horizon="1m", history="1m", keep="1m", keep_5m="5m", keep_1h="1h"
    )
    load = RegionLoad(REGION, options, store, clock)
    instances.start("n1")
    counted = 0
    for _ in range(185):
        counted += 60
        instances.report(Usage(0.1, counted, 0.0, 0.0))
        load.collect(instances.members)
        clock.advance(60)
    hours = store.load_history.slots(REGION, 3_600, *EVER)
    assert len(store.load_history.slots(REGION, 60, *EVER)) <= 65  # looked at once an hour
    assert len(store.load_history.slots(REGION, 300, *EVER)) <= 24  # whole hours, one of which is under way
    assert sum(hour.events for hour in hours) == store.load_history.slots(REGION, 86_400, *EVER)[0].events
