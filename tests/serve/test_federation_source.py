"""The control plane across clusters: whom the gateway asks, what it says of regions that are lost, join and leave."""

import base64

import pytest

from fedbus.clock import ManualClock
from fedbus.errors import UnavailableError
from fedbus.options import FederationOptions
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus_serve.federation_source import FederationSource, Members

NOW_NS = 1_772_452_800_000_000_000
HOME, NEAR, FAR = "aa.home", "bb.near", "cc.far"
OPTIONS = FederationOptions.model_validate({
    "regions": {
        HOME: {
            "listen": {"ports": "24000-24019"},
            "advertise": {"external": "203.0.113.7", "ports": "25000-25019"},
        },
        NEAR: {},
    }
})  # fmt: skip


class Managers:
    """Answers as managers would; who is in ``away`` does not."""

    def __init__(self):
        self.away = set()
        self.asked = []

    async def ask(self, region, method, *arguments):
        self.asked.append((region, method, *arguments))
        if region in self.away:
            raise UnavailableError(f"{region} does not answer")
        if method == "bootstrap":
            routes = [
                region_route(name, [InstanceRoute(f"{name}/b1", "tcp://10.0.0.1:24003")]) for name in (HOME, NEAR)
            ]
            table = RoutingTable("local", HOME, 1, routes)
            return {"region": region, "table": base64.b64encode(table.encode()).decode()}
        if arguments == ("regions",):
            return [{"region": region, "state": "healthy", "load_eps": 7.0, "as_of": "2026-03-02T11:00:00Z"}]
        return [*arguments]


def peer(region, state="healthy", **said):
    return {"region": region, "state": state, "gateway": f"http://{region}:8000", "round_trip_ms": 20.0} | said


@pytest.fixture
def members():
    return Members((HOME,), tuple(OPTIONS.regions))


@pytest.fixture
def managers():
    return Managers()


@pytest.fixture
def source(managers, members):
    return FederationSource(OPTIONS, managers, members, dict, ManualClock(wall_ns=NOW_NS))


async def test_regions_join_and_leave_at_run_time(source, members):
    assert source.regions() == (HOME, NEAR)
    members.learn([peer(HOME, "self"), peer(NEAR), peer(FAR)])
    assert source.regions() == (HOME, NEAR, FAR)
    members.learn([peer(HOME, "self"), peer(NEAR, "left"), peer(FAR)])
    assert source.regions() == (HOME, FAR)


async def test_a_living_region_is_asked_and_what_peering_measures_is_added(source, members):
    members.learn([peer(HOME, "self"), peer(NEAR, public_key="k", endpoint="tcp://near:1")])
    (found,) = await source.read("regions", NEAR)
    assert (found["state"], found["load_eps"], found["round_trip_ms"]) == ("healthy", 7.0, 20.0)
    assert (found["public_key"], found["peering"], found["gateway"]) == ("k", "tcp://near:1", f"http://{NEAR}:8000")


async def test_of_a_lost_region_is_told_what_it_said_last_and_since_when_without_asking_it(source, members, managers):
    members.learn([peer(HOME, "self"), peer(NEAR)])
    await source.read("regions", NEAR)
    members.learn([peer(HOME, "self"), peer(NEAR, "lost", lost_for_s=60.0)])
    managers.asked.clear()
    (found,) = await source.read("regions", NEAR)
    assert (found["state"], found["lost_since"], found["load_eps"]) == ("lost", "2026-03-02T11:59:00.000000Z", 7.0)
    for attempt in (source.read("instances", NEAR), source.query(NEAR, "group", "g"), source.change(NEAR, "x", "y")):
        with pytest.raises(UnavailableError, match=f"region {NEAR} is lost for 60 s"):
            await attempt
    assert managers.asked == []


async def test_a_region_never_heard_is_waited_for(source, members):
    members.learn([peer(HOME, "self"), peer(NEAR, "waiting", round_trip_ms=None)])
    (found,) = await source.read("regions", NEAR)
    assert (found["state"], found["lost_since"]) == ("waiting", None)


async def test_before_peering_has_said_anything_regions_are_simply_asked(source, managers):
    assert await source.read("slas", NEAR) == ["slas"]
    managers.away.add(NEAR)
    with pytest.raises(UnavailableError):
        await source.read("regions", NEAR)


async def test_the_bootstrap_names_the_gateways_of_others_living_ones_first(source, members):
    members.learn([peer(HOME, "self"), peer(NEAR, "lost"), peer(FAR), peer("dd.left", "left")])
    found = await source.bootstrap("internal")
    assert found.gateways == [f"http://{FAR}:8000", f"http://{NEAR}:8000"]


async def test_strangers_are_told_the_external_endpoints_of_the_own_region(source):
    inside, outside = [await source.bootstrap(network) for network in ("internal", "external")]
    endpoints = [[route.instances[0].endpoint for route in found.table.regions] for found in (inside, outside)]
    assert endpoints == [["tcp://10.0.0.1:24003"] * 2, ["tcp://203.0.113.7:25003", "tcp://10.0.0.1:24003"]]
