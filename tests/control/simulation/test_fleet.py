import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedbus.control.scaling import Bounds, scale
from fedbus.control.simulation.fleet import STABILISATION_MIN, Fleet, leading_max, serving, trailing_max, wanted

MINUTE_NS = 60_000_000_000
needs_lists = st.lists(st.integers(1, 60), min_size=1, max_size=80)


def test_an_instance_ordered_serves_after_the_delay_and_leaves_after_the_stabilisation():
    needs = np.array([1, 1, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1], dtype=float)
    ordered = wanted(needs)
    assert ordered.tolist() == [1, 1, 4, 4, 4, 4, 4, 1, 1, 1, 1, 1]
    assert serving(ordered, 3).tolist() == [1, 1, 1, 1, 1, 4, 4, 1, 1, 1, 1, 1]
    assert serving(ordered, 0).tolist() == ordered.tolist()


@given(needs_lists, st.integers(0, 15))
def test_minute_by_minute_and_at_once_are_the_same(needs, delay_min):
    ordered = wanted(np.array(needs, dtype=float))
    fleet = Fleet(delay_min)
    steps = [fleet.step(need) for need in needs]
    assert [each[0] for each in steps] == ordered.tolist()
    assert [each[1] for each in steps] == serving(ordered, delay_min).tolist()


@given(needs_lists)
def test_the_fleet_keeps_what_the_planner_of_the_live_manager_keeps(needs):
    ordered = wanted(np.array(needs, dtype=float))
    recent, kept = (), []
    bounds = Bounds(window_ns=(STABILISATION_MIN - 1) * MINUTE_NS)
    for minute, need in enumerate(needs):
        scaled = scale(minute * MINUTE_NS, need, 0, recent, bounds)
        recent = scaled.recent
        kept.append(scaled.floor)
    assert kept == ordered.tolist()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.integers(1, 20))
def test_sliding_maxima_are_those_of_the_windows(values, width):
    array = np.array(values)
    assert trailing_max(array, width).tolist() == [
        max(values[max(0, n - width + 1) : n + 1]) for n in range(len(values))
    ]
    assert leading_max(array, width).tolist() == [max(values[n : n + width]) for n in range(len(values))]
