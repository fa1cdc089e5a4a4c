"""The Router's decisions."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.errors import NotFoundError, UnavailableError
from fedbus.keys import assign_slots, best_owner, key_hash, slot_of
from fedbus.routing.router import Router
from fedbus.routing.table import DEGRADED, DRAINING, HEALTHY, UNREACHABLE, InstanceRoute, RoutingTable, region_route

NAMES = st.lists(st.sampled_from([f"b{i}" for i in range(12)]), unique=True, min_size=1, max_size=8)


def instance(name, state=HEALTHY, weight=1.0):
    return InstanceRoute(name, f"tcp://127.0.0.1:{7000 + int(name[1:])}", state, weight)


def table(version=1, home="eu", **regions):
    parts = [region_route(name, [i if isinstance(i, InstanceRoute) else instance(i) for i in instances])
             for name, instances in regions.items()]  # fmt: skip
    return RoutingTable("f", home, version, parts)


def router(routes, home="eu", seed=1):
    made = Router(home, random.Random(seed))
    assert made.adopt(routes)
    return made


@settings(deadline=None)  # the machine may be busy
@given(NAMES, st.text(min_size=1, max_size=8))
def test_a_key_goes_to_the_same_owner_whoever_asks(names, key):
    one, other = router(table(eu=names)), router(table(eu=names[::-1]), seed=2)
    assert one.owner(key_hash(key)).instance == other.owner(key_hash(key)).instance


@settings(deadline=None)  # the machine may be busy
@given(NAMES.filter(lambda names: len(names) > 1), st.text(min_size=1, max_size=8), st.data())
def test_a_lost_instance_moves_only_its_own_keys(names, key, data):
    made = router(table(eu=names))
    lost = data.draw(st.sampled_from(names))
    before = made.owner(key_hash(key)).instance
    after = made.owner(key_hash(key), avoid={lost}).instance
    assert after != lost
    assert before in (lost, after)
    rest = [name for name in names if name != lost]
    assert after == rest[assign_slots(rest)[slot_of(key_hash(key))]]


@settings(deadline=None)  # the machine may be busy
@given(NAMES, st.integers(0, 4095))
def test_the_best_owner_of_a_slot_is_the_one_the_whole_assignment_names(names, slot):
    assert best_owner(slot, names) == assign_slots(names)[slot]


@settings(deadline=None)  # the machine may be busy
@given(NAMES, st.sets(st.sampled_from([f"b{i}" for i in range(12)])), st.integers())
def test_nobody_is_picked_who_is_to_be_avoided(names, avoid, seed):
    made = router(table(eu=names), seed=seed)
    if set(names) <= avoid:
        with pytest.raises(UnavailableError):
            made.pick(avoid=avoid)
    else:
        assert made.pick(avoid=avoid).instance not in avoid


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from([HEALTHY, DEGRADED, DRAINING, UNREACHABLE]), min_size=1, max_size=6), st.integers())
def test_only_instances_that_take_events_are_picked_or_own_keys(states, seed):
    made = router(table(eu=[instance(f"b{i}", state) for i, state in enumerate(states)]), seed=seed)
    if not {HEALTHY, DEGRADED} & set(states):
        with pytest.raises(UnavailableError, match="b0 "):
            made.pick()
        return
    assert made.pick().takes_events
    assert made.owner(seed & 0xFFFFFFFF or 1).takes_events


def test_the_less_loaded_of_two_is_picked():
    made = router(table(eu=["b1", "b2"]))
    for _ in range(5):
        made.sent("b1")
    assert {made.pick().instance for _ in range(50)} == {"b2"}
    for _ in range(5):
        made.answered("b1")
    assert {made.pick().instance for _ in range(50)} == {"b1", "b2"}


def test_the_nearer_of_two_is_picked_and_noise_decides_nothing():
    made = router(table(eu=["b1", "b2"]))
    made.observe("b1", 0.2, 0)
    made.observe("b2", 0.4, 0)
    assert {made.pick().instance for _ in range(50)} == {"b1", "b2"}
    made.observe("b2", 80.0, 0)
    assert {made.pick().instance for _ in range(50)} == {"b1"}


def test_a_heavier_instance_carries_more_in_flight():
    made = router(table(eu=[instance("b1", weight=4.0), instance("b2")]))
    for _ in range(100):
        made.sent(made.pick().instance)
    in_flight = {row["instance"]: row["in_flight"] for row in made.explain()}
    assert 75 <= in_flight["b1"] <= 85


def test_a_silent_instance_is_not_picked_until_it_answers_but_keeps_its_keys():
    made = router(table(eu=["b1", "b2"]))
    key = next(h for h in range(1, 5000) if made.owner(h).instance == "b1")
    made.suspect("b1")
    assert {made.pick().instance for _ in range(50)} == {"b2"}
    assert made.owner(key).instance == "b1"
    made.cleared("b1")
    assert {made.pick().instance for _ in range(50)} == {"b1", "b2"}


def test_other_regions_take_over_in_the_order_of_their_distance():
    places = {"eu": (52.5, 13.4), "us": (39.0, -77.5), "uk": (51.5, -0.1)}
    parts = [
        region_route(r, [instance(f"b{i}")], latitude=lat, longitude=lon)
        for i, (r, (lat, lon)) in enumerate(places.items())
    ]
    made = router(RoutingTable("f", "eu", 1, [*parts, region_route("nowhere", [instance("b9")])]))
    order = []
    for _ in range(4):
        order.append(made.pick().instance)
        assert made.owner(1, avoid=order[:-1]).instance == order[-1]
        made.suspect(order[-1])
    assert order == ["b0", "b2", "b1", "b9"]
    with pytest.raises(UnavailableError, match="b9"):
        made.pick()
    rows = {row["region"]: row for row in made.explain()}
    assert rows["uk"]["rtt_ms"] < rows["us"]["rtt_ms"] < rows["nowhere"]["rtt_ms"]


def test_staying_in_the_region_can_be_asked_for():
    made = router(table(eu=["b1"], us=["b2"]))
    made.suspect("b1")
    with pytest.raises(UnavailableError):
        made.pick(elsewhere=False)
    assert made.pick(region="us", elsewhere=False).instance == "b2"


def test_an_unknown_region_is_named_with_those_there_are():
    with pytest.raises(NotFoundError, match=r"'mars'.*eu, us"):
        router(table(eu=["b1"], us=["b2"])).pick(region="mars")


def test_only_newer_tables_are_adopted_and_measurements_survive_them():
    made = router(table(version=3, eu=["b1", "b2"]))
    made.observe("b1", 80.0, 0)
    assert not made.adopt(table(version=3, eu=["b3"]))
    assert not made.adopt(table(version=2, eu=["b3"]))
    assert made.adopt(table(version=4, eu=["b1", "b3"]))
    assert {made.pick().instance for _ in range(50)} == {"b3"}
    assert made.standing("b2") is None


def test_another_regions_table_counts_only_while_nobody_at_home_answers():
    made = router(table(version=3, home="eu", eu=["b1"], us=["b2"]))
    foreign = table(version=90, home="us", eu=["b1"], us=["b2", "b3"])
    assert not made.adopt(foreign)
    made.suspect("b1")
    assert made.adopt(foreign)
    assert made.adopt(table(version=4, home="eu", eu=["b1"], us=["b2"]))


def test_a_decision_is_of_the_same_kind_among_a_thousand_instances():
    many = [InstanceRoute(f"i{n}", f"tcp://127.0.0.1:{n}") for n in range(1000)]
    made = router(RoutingTable("f", "eu", 1, [region_route("eu", many)]))
    assert len({made.pick().instance for _ in range(2000)}) > 500


def test_other_regions_take_over_by_measured_round_trip_before_distance():
    def part(name, place, longitude, told_ms=None):
        return region_route(name, [instance(place)], latitude=50.0, longitude=longitude, round_trip_ms=told_ms)

    parts = [
        part("eu", "b0", 10.0),
        part("near", "b1", 12.0, 90.0),
        part("far", "b2", 60.0),
        part("told", "b3", 50.0, 20.0),
    ]
    made = router(RoutingTable("f", "eu", 1, parts))
    assert [region for region, _ in made.failover()] == ["eu", "told", "far", "near"]
    made.observe("b2", 4.0, 0)
    made.beat(0)
    assert [region for region, _ in made.failover()] == ["eu", "far", "told", "near"]
    for name in ("b0", "b2"):
        made.suspect(name)
    made.beat(1)
    assert made.pick().instance == "b3"


def test_the_order_of_regions_does_not_follow_every_wobble():
    made = router(table(eu=["b0"], us=["b1"], ap=["b2"]))
    made.observe("b1", 20.0, 0)
    made.observe("b2", 21.0, 0)
    made.beat(0)
    before = made.failover()
    for place in range(1, 50):
        made.observe("b1", 20.0 + place % 3, place * 10**9)
        made.beat(place * 10**9)
        assert made.failover() == before


def test_two_that_are_as_good_as_equal_differ_by_what_is_in_flight():
    made = router(table(eu=["b1", "b2"]))
    made.observe("b1", 10.0, 0)
    made.observe("b2", 12.0, 0)
    for _ in range(40):
        made.sent(made.pick().instance)
    in_flight = {row["instance"]: row["in_flight"] for row in made.explain()}
    assert abs(in_flight["b1"] - in_flight["b2"]) <= 4
    assert all("b1" in reason or "b2" in reason for reason in made.reasons())
