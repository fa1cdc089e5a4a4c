"""From health to the table everybody follows."""

from __future__ import annotations

import msgspec

from fedbus.control.routing_policy import generate_routing_policy, instance_route
from fedbus.control.summary import RegionSummary
from fedbus.routing.table import InstanceRoute


def region(name: str, *routes: InstanceRoute) -> RegionSummary:
    return RegionSummary(name, 1, 0, 0.0, 0.0, 0.0, 0.0, 0.0, list(routes), [])


ONE, TWO = InstanceRoute("a/b1", "tcp://h:1"), InstanceRoute("a/b2", "tcp://h:2")


def test_a_table_that_says_the_same_keeps_its_version() -> None:
    before = generate_routing_policy("f", region("a", ONE, TWO), [region("z"), region("b")], None, 1000)
    again = generate_routing_policy("f", region("a", TWO, ONE), [region("b"), region("z")], before, 2000)
    assert again is before


def test_a_changed_table_has_a_higher_version_even_if_the_clock_stands_still() -> None:
    before = generate_routing_policy("f", region("a", ONE), [], None, 1000)
    after = generate_routing_policy("f", region("a", ONE, TWO), [], before, 1000)
    assert after.version > before.version


def test_slots_belong_only_to_instances_that_take_events() -> None:
    draining = InstanceRoute("a/b2", "tcp://h:2", "draining")
    table = generate_routing_policy("f", region("a", ONE, draining), [], None, 1000)
    route = table.region("a")
    assert route is not None
    assert set(route.owner_places()) == {0}


def test_an_instance_that_never_answered_is_not_in_the_table() -> None:
    assert instance_route("a/b1", "tcp://h:1", "starting", 1.0) is None
    assert instance_route("a/b1", "tcp://h:1", "dead", 1.0) == InstanceRoute("a/b1", "tcp://h:1", "unreachable")


def test_a_degraded_instance_is_to_take_less() -> None:
    healthy, degraded = (instance_route("a/b1", "tcp://h:1", state, 2.0) for state in ("healthy", "degraded"))
    assert healthy is not None
    assert degraded is not None
    assert degraded.weight < healthy.weight == 2.0


def test_the_routes_of_a_lost_region_are_known_and_unreachable() -> None:
    table = generate_routing_policy("f", region("a", ONE), [region("b", TWO)], None, 1000, {"b"})
    route = table.region("b")
    assert route is not None
    assert [each.state for each in route.instances] == ["unreachable"]
    assert not route.instances[0].takes_events


def test_a_measured_round_trip_is_told_and_only_another_one_makes_another_table() -> None:
    def home(trip_ms: float | None) -> RegionSummary:
        trips = {} if trip_ms is None else {"b": trip_ms}
        return msgspec.structs.replace(region("a", ONE), round_trips=trips)

    table = generate_routing_policy("f", home(80.04), [region("b", TWO)], None, 1000)
    told = table.region("b")
    assert told is not None
    assert told.round_trip_ms == 80.0
    for trip_ms in (83.0, 60.0, 110.0, None):
        assert generate_routing_policy("f", home(trip_ms), [region("b", TWO)], table, 2000) is table
    slower = generate_routing_policy("f", home(200.0), [region("b", TWO)], table, 2000).region("b")
    assert slower is not None
    assert slower.round_trip_ms == 200.0
