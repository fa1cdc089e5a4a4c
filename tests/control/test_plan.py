import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.control.assurance import Assurance
from fedbus.control.capacity import InstanceSize
from fedbus.control.directive import Directive
from fedbus.control.expected import Expected
from fedbus.control.forecast.protocol import QUANTILES, Forecast
from fedbus.control.load import NS_PER_S
from fedbus.control.plan import Plan, plan
from fedbus.control.sizing import SizeMemory
from fedbus.control.sla import Sla
from fedbus.control.view import (
    InstanceView,
    Memory,
    Need,
    ObservedLoad,
    Override,
    PeerSummary,
    PlanSettings,
    RegionView,
    View,
)

NOW = 1_735_740_000 * NS_PER_S  # 2025-01-01T14:00Z
SMALL, LARGE = InstanceSize("small", 1000.0), InstanceSize("large", 4000.0, cost=3.0)
HEAVY = InstanceSize("heavy", 500.0, 1e9, cost=0.5)
WATCHED = Memory(began_ns=NOW - 3600 * NS_PER_S)
BUSY = Memory(
    began_ns=0, needs=(Need(NOW - 60 * NS_PER_S, 7),), target=7, unit="large", in_service=("b1", "b9"),
    sizing=SizeMemory("large", 0, NOW - NS_PER_S, {"small": 1e9}), assurance=Assurance(budget=0.5, excess=-9.0),
)  # fmt: skip


def seconds(count):
    return round(count * NS_PER_S)


def instance(name, state="healthy", *, node="n1", since_s=3600, load=0.0, size="small"):
    return InstanceView(id=name, size=size, state=state, node=node, since_ns=NOW - seconds(since_s), load_eps=load)


def instances(count, **kind):
    return tuple(instance(f"b{number}", **kind) for number in range(1, count + 1))


def forecast(*eps, model="arima", basis="model", age_s=0, normal=None, region="eu"):
    """Flat in the quantile: the path is what every quantile says; slots of 5 min from now."""
    path = tuple(float(each) for each in eps)
    return Forecast(
        region=region,
        made_at_ns=NOW - seconds(age_s),
        start_ns=NOW - seconds(age_s),
        slot_s=300,
        model=model,
        basis=basis,
        point_eps=path,
        quantiles=dict.fromkeys(QUANTILES, path),
        normal_eps=path if normal is None else tuple(float(each) for each in normal),
    )


def region(count=2, *, load=1000.0, **changes):
    base = RegionView(
        region="eu", sizes=(SMALL,), size="small", minimum=1, maximum=10, instances=instances(count),
        observed=ObservedLoad(NOW, load), forecast=forecast(*[load] * 12), provisioning_lead_s=300, memory=WATCHED,
        target_utilization=0.7,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def planned(view, now_ns=NOW, generation=1, **knobs):
    result = plan(View(now_ns=now_ns, generation=generation, regions=(view,), settings=PlanSettings(**knobs)))
    return result.regions[0]


def actions(region_plan):
    return [(each.action, each.cause) for each in region_plan.directives]


def test_a_region_that_holds_its_load_is_left_alone():
    result = planned(region(2))
    assert result.directives == ()
    why = "2 × small needed (observed load is 1k events/s = 2 × 700 events/s); 2 in service; nothing to do"
    assert why in result.explanation


def test_a_forecast_orders_capacity_before_the_load_is_there_and_says_so():
    result = planned(region(2, load=1000.0, forecast=forecast(1000, 3400, *[3400] * 10)))
    assert actions(result) == [("create", "forecast")] * 3
    assert result.directives[0].reason == (
        "forecast (arima, q=0.999) needs 3.4k events/s at 14:05 = 5 × 700 events/s, "
        "capacity in service 1.4k events/s → create 3"
    )
    assert len({each.id for each in result.directives}) == 3


def test_instances_that_the_observed_load_asks_for_are_not_credited_to_the_forecast():
    result = planned(region(2, load=2000.0, forecast=forecast(*[3400] * 12)))
    assert actions(result) == [("create", "reactive"), ("create", "forecast"), ("create", "forecast")]


def test_the_budget_of_the_sla_and_the_violations_seen_decide_how_much_of_the_forecast_is_provided():
    noisy = msgspec.structs.replace(
        forecast(*[1000] * 12), quantiles={level: (1000.0 + 1000 * level**20,) * 12 for level in QUANTILES}
    )

    def needed(availability, assurance=None):
        memory = msgspec.structs.replace(WATCHED, assurance=assurance)
        view = region(2, forecast=noisy, slas=(Sla("orders.>", availability=availability),), memory=memory)
        result = planned(view)
        assert result.memory.assurance.budget == pytest.approx(1 - availability)
        assert result.decision.violation_budget == pytest.approx(1 - availability)
        return next(level.eps for level in result.decision.levels if level.cause == "forecast")

    assert needed(0.9) < needed(0.98) < needed(0.99)
    broken = Assurance(budget=0.02).seen(1440, 60)
    kept = Assurance(budget=0.02).seen(1440, 0)
    assert needed(0.98, kept) < needed(0.98) < needed(0.98, broken)
    assert needed(0.99, broken) > needed(0.99), "what was learned of one budget holds for another"


def test_a_rise_beyond_the_provisioning_lead_is_not_ordered_yet():
    view = region(2, forecast=forecast(1000, 1000, 3400, *[3400] * 9))
    assert planned(view).directives == ()
    assert len(planned(msgspec.structs.replace(view, provisioning_lead_s=601)).directives) == 3


@pytest.mark.parametrize(
    ("broken", "note"),
    [
        (None, "no forecast"),
        (forecast(*[9000] * 12, age_s=1900), "1900 s old"),
        (forecast(*[float("nan")] * 12), "not a finite rate"),
        (forecast(*[-1] * 12), "not a finite rate"),
        (forecast(*[9000] * 12, region="us"), "for us"),
        (forecast(9000, age_s=400), "run out"),
        (forecast(*[9000] * 12, basis="fallback"), ""),
    ],
)
def test_a_forecast_that_cannot_be_trusted_degrades_to_reactive_scaling(broken, note):
    assert planned(region(2, forecast=broken)).directives == ()
    result = planned(region(2, load=2000.0, forecast=broken))
    assert actions(result) == [("create", "reactive")]
    assert note in result.explanation


def expected(after_s, eps, *, slots=10):
    """A campaign from then on, in slots of a minute."""
    return Expected(
        trigger="c1", title="spring sale", origin="announced", start_ns=NOW + seconds(after_s), slot_s=60,
        eps=(float(eps),) * slots, why="3 x the usual load",
    )  # fmt: skip


def test_a_trigger_is_a_floor_above_what_the_forecast_knows_and_needs_none():
    result = planned(region(2, expected=(expected(120, 3000),)))
    assert actions(result) == [("create", "trigger")] * 3
    assert "trigger 'spring sale' is expected to bring 3k events/s at 14:02" in result.directives[0].reason
    assert planned(region(2, expected=(expected(1200, 3000),))).directives == ()
    assert actions(planned(region(2, expected=(expected(120, 3000),), forecast=None))) == [("create", "trigger")] * 3


def test_what_a_trigger_asks_for_is_kept_until_it_is_over():
    faded = region(5, load=500.0, expected=(expected(-300, 3000),))
    assert planned(faded).directives == ()
    over = msgspec.structs.replace(faded, expected=(expected(-300, 3000, slots=4),))
    assert actions(planned(over)) == [("drain", "scale_in")]


def test_scale_in_is_one_at_a_time_after_the_window_and_prefers_the_least_loaded():
    view = region(
        0, load=500.0, instances=(instance("b1", load=300), instance("b2", load=10), instance("b3", load=190))
    )
    result = planned(view)
    assert [(each.action, each.cause, each.instance) for each in result.directives] == [("drain", "scale_in", "b2")]
    assert "drain b2" in result.explanation
    recently = msgspec.structs.replace(
        view, memory=Memory(began_ns=NOW - 2 * 3600 * NS_PER_S, ordered_in_ns=NOW - seconds(60))
    )
    assert planned(recently).directives == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metrics_complete": False}, "metrics"),
        ({"observed": None}, "metrics"),
        ({"observed": ObservedLoad(NOW - seconds(400), 100.0)}, "metrics"),
        ({"observed": ObservedLoad(NOW, float("nan"))}, "metrics"),
        ({"memory": Memory()}, "whole window"),
        ({"memory": Memory(began_ns=0, needs=(Need(NOW - seconds(300), 4),))}, "nothing to do"),
        ({"forecast": forecast(500, 500, 500, 500, 2500, 2500)}, "nothing to do"),
        ({"instances": (*instances(3), instance("b9", "draining"))}, "one is draining"),
        ({"instances": (*instances(3), instance("b9", "starting"))}, "starting"),
        ({"instances": (*instances(3), instance("b9", "unreachable"))}, "unreachable"),
    ],
)
def test_scale_in_holds_wherever_it_could_be_wrong(changes, why):
    result = planned(region(4, load=500.0, **changes))
    assert [each for each in result.directives if each.action == "drain"] == []
    assert why in result.explanation


def test_the_last_instance_is_never_drained():
    for minimum in (0, 1):
        assert planned(region(1, load=0.0, minimum=minimum, forecast=forecast(*[0] * 12))).directives == ()
    ordered = region(1, override=Override(0, NOW + seconds(60)))
    assert planned(ordered).directives == ()


def test_directives_on_their_way_are_counted_and_not_ordered_again():
    first = planned(region(2, load=2000.0))
    assert len(first.directives) == 1
    view = region(2, load=2000.0, pending=first.directives, memory=first.memory)
    assert planned(view, generation=2).directives == ()
    applying = first.directives[0].step("start", NOW, instance="b3")
    starting = (*instances(2), instance("b3", "starting", since_s=1))
    view = region(2, load=2000.0, pending=(applying,), instances=starting, memory=first.memory)
    assert planned(view, generation=2).directives == ()


def test_a_create_that_failed_is_retried_after_a_pause_but_a_larger_need_at_once():
    first = planned(region(2, load=2000.0))
    later = NOW + seconds(5)
    again = region(2, load=2000.0, memory=first.memory)
    assert planned(again, later, 2).directives == ()
    assert len(planned(again, NOW + seconds(61), 2).directives) == 1
    larger = region(2, load=3000.0, memory=first.memory)
    assert len(planned(larger, later, 2).directives) == 3


def test_orders_not_begun_are_taken_back_before_anything_is_drained():
    order = planned(region(2, load=2000.0)).directives
    result = planned(region(2, load=500.0, pending=order, forecast=forecast(*[500] * 12)))
    assert result.superseded == (order[0].id,)
    assert result.directives == ()


def test_a_lost_instance_is_replaced_as_a_repair():
    before = planned(region(3, load=2000.0, forecast=None))
    dead = (*instances(2), instance("b3", "dead", since_s=1))
    result = planned(region(0, load=2000.0, instances=dead, memory=before.memory, forecast=None), NOW + seconds(5), 2)
    assert actions(result) == [("create", "repair")]
    assert "1 of the region's instances is lost" in result.directives[0].reason


def test_an_instance_silent_for_a_moment_is_waited_for():
    before = planned(region(3, load=2000.0, forecast=None))
    for since_s, creates in ((5, 0), (40, 1)):
        silent = (*instances(2), instance("b3", "unreachable", since_s=since_s))
        result = planned(region(0, load=2000.0, instances=silent, memory=before.memory, forecast=None))
        assert len(result.directives) == creates


def test_many_vanishing_at_once_is_held_for_a_while_and_then_repaired():
    before = planned(region(4, load=2500.0, forecast=None))
    view = region(0, load=2500.0, instances=instances(1), memory=before.memory, forecast=None)
    held = planned(view, NOW + seconds(1), 2)
    assert held.directives == ()
    assert "3 of 4 instances vanished at once, holding" in held.explanation
    still = msgspec.structs.replace(view, memory=held.memory)
    assert planned(still, NOW + seconds(100), 3).directives == ()
    repaired = planned(still, NOW + seconds(122), 4)
    assert actions(repaired) == [("create", "repair")] * 3
    back = region(4, load=2500.0, memory=held.memory, forecast=None)
    assert planned(back, NOW + seconds(10), 3).memory.brake_since_ns is None


def test_an_override_wins_both_ways_until_it_expires():
    more = region(2, override=Override(5, NOW + seconds(60)))
    assert actions(planned(more)) == [("create", "override")] * 3
    assert planned(msgspec.structs.replace(more, override=Override(5, NOW))).directives == ()
    less = region(4, load=2500.0, override=Override(2, NOW + seconds(60), by="alice"), metrics_complete=False)
    result = planned(less)
    assert [(each.action, each.cause) for each in result.directives] == [("drain", "override")]
    assert "alice asked for 2" in result.directives[0].reason
    sized = region(1, sizes=(SMALL, InstanceSize("large", 4000.0)), override=Override(3, NOW + seconds(60), "large"))
    assert {each.size for each in planned(sized).directives} == {"large"}


def test_a_region_starts_with_its_minimum_and_never_grows_beyond_its_maximum():
    empty = region(0, minimum=2, observed=None, forecast=None, memory=Memory())
    assert actions(planned(empty)) == [("create", "minimum")] * 2
    flooded = planned(region(2, load=99_000.0, maximum=4))
    assert len(flooded.directives) == 2
    assert "the region's maximum is 4" in flooded.explanation


def test_a_spare_covers_the_loss_of_an_instance():
    assert planned(region(2), spare_instances=0).directives == ()
    assert actions(planned(region(2), spare_instances=1)) == [("create", "reactive")]


def test_a_lost_neighbours_share_is_expected_for_a_while():
    lost = PeerSummary(region="us", at_ns=NOW - seconds(30), load_eps=3000, lost_since_ns=NOW - seconds(30))
    other = PeerSummary(region="ap", at_ns=NOW, load_eps=100)
    result = planned(region(2, peers=(lost, other)))
    assert len(result.directives) == 2  # (1000 + 3000 / 2) at 70 %
    assert "us cannot be reached" in result.directives[0].reason
    long_ago = msgspec.structs.replace(lost, lost_since_ns=NOW - seconds(1000))
    assert planned(region(2, peers=(long_ago, other))).directives == ()


def test_a_plan_crosses_json_and_is_the_same_for_the_same_view():
    view = View(now_ns=NOW, generation=3, regions=(region(1, load=2000.0), region(2, region="us")))
    result = plan(view)
    assert result == plan(msgspec.json.decode(msgspec.json.encode(view), type=View))
    assert msgspec.json.decode(msgspec.json.encode(result), type=Plan) == result
    assert set(result.explanation) == {"eu", "us"}


def test_planning_needs_neither_numpy_nor_statsforecast():
    heavy = "numpy", "statsforecast", "zmq", "ray", "pydantic"
    program = f"import sys, fedbus.control.plan; sys.exit(bool(set({heavy!r}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


STATES = st.sampled_from(["starting", "healthy", "degraded", "draining", "unreachable", "dead"])
RATES = st.floats(min_value=-10, max_value=1e9) | st.sampled_from([float("nan"), float("inf"), 0.0])


@st.composite
def any_region(draw):
    count = draw(st.integers(0, 6))
    sizes = draw(st.lists(st.sampled_from([SMALL, LARGE, HEAVY]), min_size=1, unique=True))
    fleet = tuple(
        instance(
            f"b{n}", draw(STATES), node=draw(st.sampled_from(["n1", "n2"])), since_s=draw(st.integers(0, 500)),
            size=draw(st.sampled_from(["small", "large", "gone"])),
        )
        for n in range(count)
    )  # fmt: skip
    path = draw(st.lists(RATES, max_size=20))
    return region(
        instances=fleet,
        sizes=tuple(sizes),
        size=draw(st.sampled_from([each.name for each in sizes])),
        expected=draw(st.sampled_from([(), (expected(120, 3000),), (expected(120, float("inf")),)])),
        observed=draw(st.none() | st.builds(ObservedLoad, st.just(NOW), RATES, RATES)),
        forecast=draw(st.none() | st.just(forecast(*path))),
        metrics_complete=draw(st.booleans()),
        minimum=draw(st.integers(0, 2)),
        maximum=draw(st.integers(2, 8)),
        override=draw(st.none() | st.builds(Override, st.integers(-1, 20), st.just(NOW + seconds(1000)))),
        memory=draw(st.sampled_from([Memory(), WATCHED, BUSY])),
    )


@settings(max_examples=200, deadline=None)
@given(any_region(), st.integers(1, 6))
def test_whatever_the_view_the_plan_stays_within_its_limits(view, ticks):
    now_ns = NOW
    for generation in range(ticks):
        result = planned(view, now_ns, generation)
        serving = {each.id for each in view.instances if each.state in ("healthy", "degraded")}
        drained = {each.instance for each in result.directives if each.action == "drain"}
        creates = [each for each in result.directives if each.action == "create"]
        assert drained <= serving
        assert not drained or len(serving - drained) >= 1
        assert not (drained and creates)
        assert len(drained) <= 1
        arriving = sum(each.state == "starting" for each in view.instances) + len(view.pending)
        assert len(creates) <= max(0, view.maximum - len(serving) - arriving)
        assert all(each.reason and each.decision == result.decision for each in result.directives)
        assert 0 <= result.target <= view.maximum
        assert result.explanation
        assert msgspec.json.decode(msgspec.json.encode(result.memory), type=Memory) == result.memory
        pending = tuple(each for each in view.pending if each.id not in result.superseded and each.action == "create")
        view = msgspec.structs.replace(view, memory=result.memory, pending=(*pending, *creates))
        now_ns += seconds(90)


def test_directives_say_what_they_are_about():
    result = planned(region(1, load=1000.0))
    (directive,) = result.directives
    assert directive == Directive(
        id="eu/1/0",
        region="eu",
        action="create",
        instance=None,
        size="small",
        cause="reactive",
        reason="observed load is 1k events/s = 2 × 700 events/s, capacity in service 700 events/s → create 1",
        ordered_at_ns=NOW,
        plan_generation=1,
        decision=result.decision,
    )
