"""Which region keys go to: it changes when it has to, and for no other reason."""

import random

import pytest

from fedbus.errors import UnavailableError
from fedbus.routing.key_region import HOME_BACK_NS, KeyRegion
from fedbus.routing.router import Router
from fedbus.routing.table import HEALTHY, UNREACHABLE, InstanceRoute, RoutingTable, region_route

S = 1_000_000_000
HOME, NEAR, FAR = "a", "b", "c"
INSTANCES = {region: {f"{region}/b1", f"{region}/b2"} for region in (HOME, NEAR, FAR)}


def table(version, home=HOME, *, lost=(), trips=()):
    trips = dict(trips or {NEAR: 5.0, FAR: 30.0})
    return RoutingTable(
        "f",
        home,
        version,
        [
            region_route(
                region,
                [
                    InstanceRoute(name, f"tcp://{name}", UNREACHABLE if region in lost else HEALTHY)
                    for name in sorted(INSTANCES[region])
                ],
                round_trip_ms=trips.get(region),
            )
            for region in INSTANCES
        ],
    )


@pytest.fixture
def router():
    made = Router(HOME, random.Random(1))
    made.adopt(table(1))
    return made


def used(keys, avoid):
    return keys.owner(1, avoid).instance.split("/")[0]


def test_the_next_region_takes_over_when_nobody_at_home_does_and_one_instance_is_enough_to_stay(router):
    keys = KeyRegion(router)
    avoid = set(INSTANCES[HOME])
    assert used(keys, {"a/b1"}) == HOME
    assert not keys.review({"a/b1"}, 0)
    with pytest.raises(UnavailableError):
        keys.owner(1, avoid)
    assert keys.review(avoid, 0)
    assert used(keys, avoid) == NEAR
    assert not keys.review(avoid | {"b/b1"}, 1)
    assert keys.review(avoid | INSTANCES[NEAR], 2)
    assert used(keys, avoid | INSTANCES[NEAR]) == FAR
    assert not keys.review(avoid, 3), "the nearer one is back: no reason to move"


def test_who_stands_in_stays_whatever_is_measured_and_whichever_table_comes(router):
    keys, avoid = KeyRegion(router), set(INSTANCES[HOME])
    for name in avoid:
        router.suspect(name)
    keys.review(avoid, 0)
    assert used(keys, avoid) == NEAR
    for beat in range(1, 200):
        for name in INSTANCES[NEAR]:
            router.observe(name, 400.0 if beat % 20 < 10 else 1.0, beat * S // 4)
        for name in INSTANCES[FAR]:
            router.observe(name, 2.0, beat * S // 4)
        router.beat(beat * S // 4)
        maker, other = (NEAR, FAR) if beat % 2 else (FAR, NEAR)
        assert router.adopt(table(100 + beat, maker, lost=[HOME], trips={other: 3.0, HOME: 3.0}))
        assert not keys.review(avoid, beat * S // 4)
        assert used(keys, avoid) == NEAR


def test_home_gets_its_keys_back_once_it_has_been_there_for_a_while_without_a_break(router):
    keys, avoid = KeyRegion(router), set(INSTANCES[HOME])
    keys.review(avoid, 0)
    used(keys, avoid)
    for now_ns in range(10 * S, 60 * S, HOME_BACK_NS // 2):  # it comes and goes
        back = now_ns // (HOME_BACK_NS // 2) % 2
        assert not keys.review(set() if back else avoid, now_ns)
    assert not keys.review(avoid, 60 * S)
    assert not keys.review(set(), 61 * S)
    assert not keys.review(set(), 61 * S + HOME_BACK_NS - 1)
    assert keys.review(set(), 61 * S + HOME_BACK_NS)
    assert used(keys, set()) == HOME


def test_home_gets_them_back_at_once_if_nobody_else_is_left_or_nothing_went_elsewhere(router):
    keys, avoid = KeyRegion(router), set(INSTANCES[HOME])
    keys.review(avoid, 0)
    assert keys.review(set(), 1), "nothing was placed meanwhile"
    keys.review(avoid, 2)
    used(keys, avoid)
    assert keys.review(INSTANCES[NEAR] | INSTANCES[FAR], 3)
    assert used(keys, set()) == HOME


def test_only_the_regions_given_are_asked_in_their_order(router):
    keys = KeyRegion(router, [FAR, "nowhere", HOME])
    assert used(keys, set()) == FAR
    assert keys.review(INSTANCES[FAR], 0)
    assert used(keys, INSTANCES[FAR]) == HOME
    assert KeyRegion(router, ["nowhere"]).review(set(), 0) is False
    with pytest.raises(UnavailableError, match="nowhere"):
        KeyRegion(router, ["nowhere"]).owner(1, set())


def test_another_regions_table_does_not_put_the_regions_in_another_order(router):
    for name in INSTANCES[HOME]:
        router.suspect(name)
    before = router.failover()
    assert router.adopt(table(7, FAR, lost=[HOME], trips={HOME: 1.0, NEAR: 90.0}))
    assert router.failover() == before
    for name, ms in (("b/b1", 40.0), ("c/b1", 2.0)):
        router.observe(name, ms, 0)
    router.beat(0)
    measured = router.failover()
    assert [region for region, _ in measured] == [HOME, FAR, NEAR]
    assert router.adopt(table(7, NEAR, lost=[HOME], trips={HOME: 1.0, FAR: 90.0}))
    assert router.adopt(table(2, HOME, trips={NEAR: 6.0, FAR: 30.0}))
    assert router.failover() == measured, "what was measured holds"
