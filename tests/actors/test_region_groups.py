"""A region's registry of groups: made when somebody asks, told to every living instance, changed by operators."""

from types import SimpleNamespace
from typing import ClassVar

import pytest

from fedbus.broker.effects import RequestGroup
from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.protocol import EARLIEST, LATEST, GroupOptions, Settled, Start
from fedbus.broker.state import GroupExpired, GroupLoss
from fedbus.broker.status import GroupStatus, LedgerBacklog
from fedbus.clock import SystemClock
from fedbus.control.group_homes import HomeSettings
from fedbus.control.summary import LedgerSummary
from fedbus.errors import ConflictError, NotFoundError, OverloadedError, UnavailableError
from fedbus.limits import Limits
from fedbus.storage.store import Store
from fedbus_actors import group_telling, instance_calls
from fedbus_actors.region_groups import RegionGroups
from tests.actors.grouped_regions import Instance
from tests.client.waiting import until

REGION = "onprem.berlin"


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Remote calls, made at once."""
    ask = SimpleNamespace(ask=lambda calls, timeout_s: {key: call() for key, call in calls.items()})
    monkeypatch.setattr(instance_calls, "remote", ask)
    monkeypatch.setattr(group_telling, "remote", ask)


class NoPeers:
    """The only region there is, as far as it knows; ``summaries``: of regions that it hears of."""

    states: ClassVar[dict[str, object]] = {}

    def __init__(self):
        self.summaries = {}

    def members(self):
        return []

    def publish_groups(self, records):
        pass


@pytest.fixture
def region(tmp_path):
    """A region with two instances and its registry."""
    made = SimpleNamespace(store=Store(tmp_path / "store.db", 1), peers=NoPeers(), limits=Limits(), notes=[])
    made.b1, made.b2 = Instance(REGION, "b1", {f"{REGION}/b1/0": 5}), Instance(REGION, "b2", {f"{REGION}/b2/0": 6})
    made.fleet = SimpleNamespace(members={"b1": made.b1, "b2": made.b2})
    opened = []

    def open_registry():
        groups = RegionGroups(
            REGION, made.store, made.fleet, made.limits, lambda: made.peers, HomeSettings(), SystemClock(),
            lambda *note: made.notes.append(note),
        )  # fmt: skip
        opened.append(groups)
        return groups

    made.open = open_registry
    yield made
    for groups in opened:
        groups.requests.stop()
    made.store.close()


def wanted(filters=("a",), start=None, **options):
    return {"filters": list(filters), "start": start, "options": GroupOptions(**options)}


def test_a_group_is_known_to_every_instance_when_the_answer_comes(region):
    groups = region.open()
    groups.put("g", wanted(max_deliveries=3))
    assert region.b1.names() == region.b2.names() == ["g"]
    spec = groups.registry.find("g")
    assert (spec.options.max_deliveries, spec.start, spec.generation, spec.version) == (3, EARLIEST, 1, 1)
    again = region.open()
    assert again.registry.find("g") == spec


def test_an_instance_that_does_not_record_it_is_named_and_told_later(region):
    groups = region.open()
    region.b2.answers = False
    with pytest.raises(UnavailableError, match=r"onprem.berlin/b2 did not confirm it within 2 s"):
        groups.put("g", wanted())
    region.b2.state = "unreachable"
    groups.put("g", wanted())
    region.b2.state, region.b2.answers = "healthy", True
    groups.step()
    assert region.b2.names() == ["g"]


def test_an_instance_that_refuses_it_is_named(region):
    groups = region.open()
    region.b1.refuses = {"g": "this instance already has its 4096 groups"}
    with pytest.raises(UnavailableError, match="already has its 4096 groups"):
        groups.put("g", wanted())
    groups.put("h", wanted())  # what it refuses of others does not matter here


def test_who_has_all_is_told_once_and_a_new_process_again(region):
    groups = region.open()
    groups.put("g", wanted())
    for _ in range(3):
        groups.step()
    assert region.b1.told == 1
    region.b1.report = SimpleNamespace(pid=8, status=region.b1.status)
    groups.step()
    groups.step()
    assert region.b1.told == 2


def test_latest_begins_at_ends_known_before(region):
    region.peers.summaries = {"aws": SimpleNamespace(ledgers=[LedgerSummary("aws/b1/3", 11, "tcp://x", True)])}
    groups = region.open()
    groups.put("g", wanted(start=LATEST))
    assert groups.registry.find("g").tails == {f"{REGION}/b1/0": 5, f"{REGION}/b2/0": 6, "aws/b1/3": 11}
    groups.put("e", wanted())
    assert groups.registry.find("e").tails == {}


def test_options_change_and_filters_and_start_do_not(region):
    groups = region.open()
    groups.put("g", wanted())
    groups.put("g", wanted(paused=True))
    spec = groups.registry.find("g")
    assert (spec.options.paused, spec.version, spec.generation) == (True, 2, 1)
    groups.put("g", wanted(paused=True))
    assert groups.registry.find("g").version == 2
    with pytest.raises(ConflictError, match="exists with filter a"):
        groups.put("g", wanted(["b"]))
    with pytest.raises(ConflictError, match="move it with seek"):
        groups.put("g", wanted(start=LATEST))


def test_a_seek_is_another_generation(region):
    groups = region.open()
    groups.put("g", wanted())
    groups.seek("g", Start("time", time_ms=9))
    spec = groups.registry.find("g")
    assert (spec.start.time_ms, spec.generation, spec.version) == (9, 2, 2)
    groups.seek("g", LATEST)
    assert groups.registry.find("g").tails
    with pytest.raises(NotFoundError):
        groups.seek("h", LATEST)


def test_a_deleted_group_is_told_as_such_and_one_made_again_is_younger(region):
    groups = region.open()
    groups.put("g", wanted())
    before = groups.registry.find("g")
    groups.delete("g")
    assert region.b1.names() == []
    assert [each.deleted for each in region.b1.definitions] == [True]
    with pytest.raises(NotFoundError):
        groups.registry.find("g")
    groups.put("g", wanted(["b"]))
    assert groups.registry.find("g").created_ns > before.created_ns
    assert region.b1.names() == ["g"]


def test_too_many_groups_are_refused(region):
    region.limits = Limits(groups=1)
    groups = region.open()
    groups.put("g", wanted())
    with pytest.raises(OverloadedError):
        groups.put("h", wanted())
    groups.delete("g")
    groups.put("h", wanted())


async def test_an_instance_that_asks_hears_after_all_others(region):
    groups = region.open()
    region.b2.answers = False
    groups.requests.add(region.b1.name, RequestGroup(GroupSpec("g", ["a"], EARLIEST)))
    await until(groups.views)
    assert region.b1.names() == []  # it asks again until the others have it
    region.b2.answers = True
    groups.requests.add(region.b1.name, RequestGroup(GroupSpec("g", ["a"], EARLIEST)))
    await until(lambda: region.b1.names() == ["g"])
    assert region.b2.names() == ["g"]


async def test_an_instance_that_asks_for_what_may_not_be_is_refused(region):
    groups = region.open()
    groups.put("g", wanted())
    groups.requests.add(region.b1.name, RequestGroup(GroupSpec("g", ["other"], EARLIEST)))
    await until(lambda: region.b1.refusals)
    [(name, code, detail, retryable)] = region.b1.refusals
    assert (name, code, retryable) == ("g", "conflict", False)
    assert "exists with filter a" in detail


def test_what_people_are_told_adds_the_instances_up(region):
    groups = region.open()
    groups.put("g", wanted(paused=True))
    expired = GroupExpired("g", "l", 4, [Settled("l", [(0, 4)])], 1000)
    for instance in (region.b1, region.b2):
        instance.status.groups.append(GroupStatus("g", ["a"], ["m"], 10, 3, 2, "earliest", 1, 0))
    region.b1.status.expired.append(GroupLoss("g", 4, [expired]))
    [view] = groups.views()
    numbers = ("members", "backlog_events", "in_flight_events", "redelivered_events", "dead_letter_events",
               "expired_events")  # fmt: skip
    assert [view[name] for name in numbers] == [1, 20, 6, 4, 2, 4]
    assert (view["paused"], view["start"], view["region"]) == (True, "earliest", REGION)
    for instance in (region.b1, region.b2):
        instance.backlog.append(LedgerBacklog("l", 3, 9, 2))
    detail = groups.detail("g")
    assert [each["instance"] for each in detail["instances"]] == [region.b1.name, region.b2.name]
    assert detail["instances"][0]["ledgers"] == [{"ledger": "l", "position": 3, "end": 9, "in_flight_events": 2}]
    [loss] = detail["expired"]
    assert (loss["events"], loss["time"]) == (4, "1970-01-01T00:00:01.000000Z")
