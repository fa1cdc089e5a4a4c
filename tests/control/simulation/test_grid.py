import math

import numpy as np
import pytest

from fedbus.control.simulation.grid import INSTANCES_AT_PEAK, LoadGrid
from fedbus.control.trace import Trace
from fedbus.errors import ConfigurationError
from tests.control.simulation.traces import START_NS, daily


def test_a_coarser_series_is_spread_evenly_and_forecast_once_per_step():
    grid = LoadGrid.of(Trace(START_NS, 1_800, tuple(float(n) for n in range(1, 1_000))))
    assert grid.load[:30].tolist() == [1 / 30] * 30
    assert grid.load.sum() == pytest.approx(sum(range(1, 1_000)))
    assert grid.tick_min == 30


def test_a_finer_series_is_added_up_to_minutes():
    grid = LoadGrid.of(Trace(START_NS, 20, (1.0, 2.0, 3.0) * 400))
    assert len(grid) == 400
    assert set(grid.load) == {6.0}
    assert grid.tick_min == 5


@pytest.mark.parametrize("step_s", [45, 90, 100])
def test_steps_that_do_not_fit_minutes_are_refused(step_s):
    with pytest.raises(ConfigurationError, match="whole number of minutes"):
        LoadGrid.of(Trace(START_NS, step_s, (1.0,) * 20_000))


@pytest.mark.parametrize(
    ("days", "first_day", "noted"), [(20, 14, False), (18, 14, False), (15, 7, True), (6, 3, True)]
)
def test_the_part_judged_begins_after_two_weeks_or_one_or_half_and_says_so(days, first_day, noted):
    grid = LoadGrid.of(daily(days, seed=days))
    assert grid.first == first_day * 1_440
    assert bool(grid.notes) is noted


def test_what_an_instance_holds_follows_from_the_judged_part_unless_given():
    trace = daily(20, seed=3)
    grid = LoadGrid.of(trace)
    assert grid.capacity == pytest.approx(np.quantile(grid.judged, 0.999) / INSTANCES_AT_PEAK)
    assert LoadGrid.of(trace, capacity_eps=5.0).capacity == 300.0


def test_a_minute_is_seen_two_minutes_after_it_began_and_held_over_gaps():
    nan = math.nan
    grid = LoadGrid.of(Trace(START_NS, 60, (nan, 5.0, 6.0, nan, nan, 9.0, *[1.0] * 300)))
    assert grid.seen()[:9].tolist() == [5.0, 5.0, 5.0, 5.0, 6.0, 6.0, 6.0, 9.0, 1.0]


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (Trace(START_NS, 60, (1.0,) * 100), "covers 100 minutes"),
        (Trace(START_NS, 60, (0.0,) * 1_000), "no load"),
        (Trace(START_NS, 60, (1.0,) * 500 + (math.nan,) * 500), "too many values are missing"),
    ],
)
def test_a_series_that_says_nothing_is_refused_with_the_reason(trace, words):
    with pytest.raises(ConfigurationError, match=words):
        LoadGrid.of(trace)
