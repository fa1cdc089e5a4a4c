"""Number and size at least cost, in a region that does what its plan says."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.control.capacity import InstanceSize
from fedbus.control.plan import RegionPlan
from fedbus.control.view import Override
from tests.control.plan_world import MINUTE, World

SMALL, LARGE = InstanceSize("small", 1000.0, cost=1.0), InstanceSize("large", 4000.0, cost=3.0)


def test_a_region_of_one_size_never_replaces_anything():
    world = World((SMALL,))
    world.run(3500.0, 120)
    assert [(each.action, each.cause) for each in world.directives] == [("create", "minimum")] + [
        ("create", "reactive")
    ] * 3
    assert world.eps == 4000


def test_the_cheaper_size_replaces_the_other_once_that_pays_without_a_gap():
    world = World((SMALL, LARGE), scale_in_pause_s=60)
    world.run(3900.0, 600)
    assert set(world.serving.values()) == {"large"}
    assert len(world.serving) == 1
    causes = [(each.action, each.cause, each.size) for each in world.directives]
    assert causes.count(("create", "replacement", "large")) == 1
    assert causes.count(("drain", "scale_in", "small")) == 4
    assert all(eps >= need for need, eps, _ in world.history[10:])
    quiet = world.plans[-60:]
    assert not any(each.directives for each in quiet)
    assert "1 × large cost 3/h, 4 × small cost 4/h: large costs least" in quiet[-1].explanation


def test_a_large_one_gives_way_to_small_ones_where_those_are_enough():
    world = World((SMALL, LARGE), size="large", scale_in_pause_s=60)
    world.run(900.0, 600)
    assert list(world.serving.values()) == ["small"]
    assert all(eps >= need for need, eps, _ in world.history[10:])


def test_sizes_do_not_follow_a_load_that_comes_and_goes():
    world = World((SMALL, LARGE), scale_in_window_s=60, scale_in_pause_s=60)
    for _ in range(48):  # half an hour each, two days of it
        world.run(900.0, 30)
        world.run(3900.0, 30)
    sizes = [each.decision.size for each in world.plans]
    assert sum(before != after for before, after in pairwise(sizes)) <= 2


def test_when_the_maximum_of_a_size_does_not_hold_the_load_a_larger_one_takes_its_places():
    world = World((SMALL, LARGE), maximum=4)
    world.run(3500.0, 10)
    assert set(world.serving.values()) == {"small"}
    world.run(9000.0, 60)
    assert world.eps >= 9000
    assert len(world.serving) <= 4
    held = [each.explanation for each in world.plans if "make room" in each.explanation]
    assert held
    reasons = [each.reason for each in world.directives if each.cause == "replacement"]
    assert "4 instances are the most there may be, and large holds more → drain" in reasons[0]


def test_the_size_an_operator_names_holds_until_the_order_expires():
    world = World((SMALL, LARGE))
    world.run(900.0, 5)
    override = Override(2, world.now_ns + 20 * MINUTE, "large", by="alice")
    world.view = msgspec.structs.replace(world.view, override=override)
    world.run(900.0, 15)
    assert sorted(world.serving.values())[:2] == ["large", "large"]
    assert "alice asked for 2" in world.plans[-1].explanation
    world.run(900.0, 300)
    assert list(world.serving.values()) == ["small"]


def test_size_is_not_chosen_where_that_is_switched_off():
    world = World((SMALL, LARGE), choose_size=False)
    world.run(3900.0, 600)
    assert set(world.serving.values()) == {"small"}


def test_the_decision_says_why_so_many_as_data_and_crosses_json():
    world = World((SMALL, LARGE), maximum=20, spare_instances=1)
    world.run(3500.0, 5)
    result = world.plans[-1]
    decision = result.decision
    assert (decision.target, decision.size, decision.spare) == (5, "small", 1)
    assert decision.decisive.cause == "reactive"
    assert decision.decisive.eps == 3500.0
    assert [(each.size, each.instances, each.cost_per_hour, each.chosen) for each in decision.sizes] == [
        ("small", 5, 5.0, True),
        ("large", 2, 6.0, False),
    ]
    assert decision.cost_per_hour == 5.0
    assert "5 × small needed (observed load is 3.5k events/s = 4 × 1k events/s + 1 spare)" in result.explanation
    assert all(each.decision is not None for each in world.directives)
    assert msgspec.json.decode(msgspec.json.encode(result), type=RegionPlan) == result


def test_bytes_decide_where_they_are_scarcer_and_say_so():
    world = World((InstanceSize("small", 1000.0, 1e6),))
    world.run(100.0, 5, bps=3.5e6)
    assert "(observed load is 100 events/s (3.5 MB/s) = 4 × 1 MB/s)" in world.plans[-1].explanation


@st.composite
def any_sizes(draw):
    names = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    return tuple(
        InstanceSize(name, draw(st.sampled_from([300.0, 1000.0, 1700.0, 4000.0])), cost=draw(st.floats(0.1, 5)))
        for name in names
    )


@settings(max_examples=30, deadline=None)
@given(any_sizes(), st.lists(st.floats(0, 5000), min_size=1, max_size=6), st.integers(2, 12), st.integers(0, 5))
def test_whatever_the_sizes_a_steady_load_ends_with_enough_and_in_peace(sizes, loads, maximum, delay_min):
    world = World(sizes, maximum=maximum, delay_min=delay_min, scale_in_window_s=120, scale_in_pause_s=60)
    for load in loads:
        world.run(load, 15)
    calm = loads[-1]
    world.run(calm, 60 * 30)
    last = world.plans[-1].decision
    best = max(each.events_per_s for each in sizes) * maximum
    if len({each.decision.size for each in world.plans[-60 * 18 :]}) == 1:  # a tiny saving takes days to pay
        assert not any(each.directives for each in world.plans[-60 * 6 :]), "still moving without a reason"
    if calm <= best:
        assert world.eps >= calm - 1e-6 * calm
    assert last.target <= maximum
    changes = sum(a.decision.size != b.decision.size for a, b in pairwise(world.plans))
    assert changes <= 2 * len(loads) + 2


@settings(max_examples=40, deadline=None)
@given(any_sizes(), st.lists(st.floats(0, 5000), min_size=5, max_size=30), st.integers(1, 15))
def test_the_target_is_never_below_the_need_within_the_maximum(sizes, loads, each_min):
    world = World(sizes, maximum=8, scale_in_window_s=300)
    for load in loads:
        world.run(load, each_min)
    for made, (need, _, _) in zip(world.plans, world.history, strict=True):
        decision = made.decision
        size = world.sizes[decision.size]
        holds = decision.target * size.events_per_s >= need * (1 - 1e-9)
        assert holds or decision.target == 8
        assert decision.target <= decision.floor <= 8
        if not holds:
            assert size.events_per_s == max(each.events_per_s for each in sizes), "a size that holds more was there"
