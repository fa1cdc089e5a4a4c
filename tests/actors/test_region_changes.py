"""Operators' changes at a region: what they leave in its store, and what is refused."""

from types import SimpleNamespace

import pytest

from fedbus.clock import ManualClock
from fedbus.control.sla import Sla
from fedbus.control.trigger import Trigger, Window
from fedbus.errors import ConflictError, NotFoundError, UnavailableError
from fedbus.options import FederationOptions
from fedbus.storage.store import Store
from fedbus_actors.region_changes import RegionChanges

REGION = "onprem.berlin"
NOW_NS = 1_772_452_800_000_000_000


class Handle:
    """An instance's actor; remembers what it was told."""

    def __init__(self):
        self.told = []
        self.restart = SimpleNamespace(remote=lambda: self.told.append("restart"))


def member(name, *, state="healthy", lifecycle="serving", node="n1"):
    record = SimpleNamespace(id=name, state=lifecycle, node=node, size="small", region=REGION)
    report = SimpleNamespace(status=SimpleNamespace(ledger=f"{REGION}/{name}/3"))
    return SimpleNamespace(record=record, name=f"{REGION}/{name}", state=state, handle=Handle(), report=report)


@pytest.fixture
def region(tmp_path):
    store = Store(tmp_path / "store.db", NOW_NS)
    fleet = SimpleNamespace(members={})
    topics = SimpleNamespace(put=None, delete=None)
    made = SimpleNamespace(
        name=REGION, options=FederationOptions(), store=store, clock=ManualClock(NOW_NS), fleet=fleet, topics=topics,
        groups=SimpleNamespace(
            put=None, seek=None, delete=None, move=None, homes=SimpleNamespace(leave=None, give_away=None)
        ),
        peering=None,
    )  # fmt: skip
    yield made
    store.close()


@pytest.fixture
def change(region):
    changes = RegionChanges(region)
    return lambda change, name="", value=None: changes.apply(change, name, value)


def fleet(region, *members):
    region.fleet.members = {each.record.id: each for each in members}


def scaled(instances=2, size=None, expires_in_s=60.0):
    return {"instances": instances, "size": size, "expires_in_s": expires_in_s}


def test_slas_come_and_go(region, change):
    change("put_sla", "a", Sla("a", 100))
    assert region.store.slas.get("a") == Sla("a", 100)
    change("delete_sla", "a")
    with pytest.raises(NotFoundError):
        change("delete_sla", "a")


def test_an_override_expires_in_the_time_of_the_control_plane(region, change):
    assert change("scale", value=scaled())["expires"] == "2026-03-02T12:01:00.000000Z"
    assert region.store.overrides.get(REGION).expires_ns == NOW_NS + 60 * 10**9
    change("unscale")
    assert region.store.overrides.find(REGION) is None


@pytest.mark.parametrize(("wanted", "error"), [(scaled(99), ConflictError), (scaled(size="huge"), NotFoundError)])
def test_an_override_stays_within_the_regions_bounds(change, wanted, error):
    with pytest.raises(error):
        change("scale", value=wanted)


def test_a_drain_becomes_a_directive_once(region, change):
    fleet(region, member("b1"), member("b2"))
    order = change("drain", "b1")["directive"]
    assert change("drain", "b1")["directive"] == order
    (directive,) = region.store.directives.unfinished(REGION)
    assert (directive.id, directive.action, directive.instance) == (order, "drain", "b1")
    assert (directive.cause, directive.status) == ("override", "ordered")


@pytest.mark.parametrize(
    ("others", "complaint"),
    [
        ([], "the only one of its region"),
        ([member("b2", state="dead")], "the only one of its region"),
        ([member("b2", state="starting", lifecycle="starting")], "the only one of its region"),
    ],
)
def test_nobody_is_drained_whose_ledgers_nobody_could_serve(region, change, others, complaint):
    fleet(region, member("b1"), *others)
    with pytest.raises(ConflictError, match=complaint):
        change("drain", "b1")
    assert region.store.directives.unfinished(REGION) == []


def test_only_what_serves_is_drained(region, change):
    fleet(region, member("b1", state="starting", lifecycle="starting"), member("b2"))
    with pytest.raises(ConflictError, match="only one that serves"):
        change("drain", "b1")


def test_a_restart_is_told_to_the_instance(region, change):
    fleet(region, member("b1"))
    assert change("restart", "b1") == {"instance": f"{REGION}/b1", "ledger": f"{REGION}/b1/3"}
    assert region.fleet.members["b1"].handle.told == ["restart"]
    region.fleet.members["b1"].report = None
    with pytest.raises(UnavailableError):
        change("restart", "b1")


def test_unknown_instances_and_changes_are_named_with_those_there_are(region, change):
    fleet(region, member("b1"))
    with pytest.raises(NotFoundError, match="it has b1"):
        change("drain", "b7")
    with pytest.raises(NotFoundError, match="put_sla"):
        change("explode")


def test_a_trigger_announced_again_keeps_the_windows_that_are_over(region, change):
    past, coming = NOW_NS - 10**12, NOW_NS + 10**12
    change("put_trigger", "sale", Trigger(id="sale", start_ns=past, end_ns=past + 10**9))
    change("put_trigger", "sale", Trigger(id="sale", start_ns=coming, end_ns=coming + 10**9))
    assert region.store.triggers.get("sale").also == (Window(past, past + 10**9),)
