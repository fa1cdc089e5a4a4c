import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.control.simulation.frontier import HEADROOMS, cheapest, pareto, run, sweep
from fedbus.control.simulation.grid import LoadGrid
from fedbus.control.simulation.outcome import measure
from fedbus.control.simulation.policy import BASELINES, needed, run_oracle
from fedbus.control.trace import Trace
from tests.control.simulation.traces import START_NS, daily

loads = st.lists(st.one_of(st.floats(0, 1e6), st.just(float("nan"))), min_size=1, max_size=20)


def grid_of(seed, **shape):
    return LoadGrid.of(daily(10, seed, **shape))


@given(loads, st.integers(0, 12))
@settings(deadline=None)
def test_oracles_violate_nothing_and_nobody_without_violations_is_cheaper(loads, delay_min):
    grid = LoadGrid.of(Trace(START_NS, 60, (*loads, *[7.0] * 500, *loads, 7.0)))
    at_once, _ = run_oracle(grid, "oracle", delay_min)
    delayed, _ = run_oracle(grid, "oracle_delayed", delay_min)
    assert at_once.violation_min == delayed.violation_min == 0
    assert at_once.cost_vs_oracle <= delayed.cost_vs_oracle + 1e-9
    for policy in BASELINES:
        for each in sweep(grid, delay_min, needed(grid, policy, delay_min), (1.0, 2.0)):
            assert each.violation_min >= delayed.violation_min
            assert 0 <= each.shed_pct <= each.violation_min * 100
            if each.violation_min == 0:
                assert each.cost_vs_oracle >= at_once.cost_vs_oracle - 1e-9


@given(st.integers(0, 10_000), st.integers(0, 10))
@settings(max_examples=20, deadline=None)
def test_more_headroom_never_violates_more_nor_costs_less(seed, delay_min):
    outcomes = sweep(
        grid_of(seed, burst_per_day=3.0), delay_min, needed(grid_of(seed, burst_per_day=3.0), "reactive", 5)
    )
    violations = [each.violation_min for each in outcomes]
    costs = [each.cost_vs_oracle for each in outcomes]
    assert violations == sorted(violations, reverse=True)
    assert costs == sorted(costs)


def test_the_cheapest_keeps_within_the_budget_and_the_frontier_only_falls():
    grid = grid_of(5, burst_per_day=1.0)
    outcomes = sweep(grid, 5, needed(grid, "reactive", 5))
    best = cheapest(outcomes, 0.5)
    assert best is not None
    assert best.violation_pct <= 0.5
    assert all(each.violation_pct > 0.5 or each.cost_vs_oracle >= best.cost_vs_oracle for each in outcomes)
    points = pareto(outcomes)
    assert points == sorted(points)
    assert [cost for _, cost in points] == sorted((cost for _, cost in points), reverse=True)
    assert cheapest(outcomes, -1.0) is None


def test_waiting_longer_for_instances_never_violates_less():
    grid = grid_of(6, burst_per_day=2.0)
    needs = needed(grid, "reactive", 5)
    violations = [run(grid, delay_min, needs, 1.3)[0].violation_min for delay_min in (0, 2, 5, 10)]
    assert violations == sorted(violations)


def test_a_season_known_from_yesterday_beats_reacting():
    grid = grid_of(7, noise=0.02, level=300.0)
    best = {policy: cheapest(sweep(grid, 10, needed(grid, policy, 10)), 0.5) for policy in BASELINES}
    assert best["reactive_seasonal_day"].cost_vs_oracle <= best["reactive"].cost_vs_oracle


def test_a_function_of_the_knob_is_swept_like_headrooms():
    grid = grid_of(8)
    needs = needed(grid, "reactive", 5)
    assert sweep(grid, 5, lambda knob: needs * knob, HEADROOMS[:4]) == sweep(grid, 5, needs, HEADROOMS[:4])


def test_figures_of_a_run_made_by_hand():
    minutes = 400
    load = np.full(minutes, 100.0)
    load[300], load[301] = 350.0, np.nan
    grid = LoadGrid.of(Trace(START_NS, 60, tuple(load)), capacity_eps=100 / 60)
    there = np.full(minutes, 2.0)
    ordered = there.copy()
    ordered[310:] = 1.0
    figures = measure(grid, ordered, there, 1.0)
    assert figures.violation_min == 1
    assert figures.violation_pct == pytest.approx(100 / 199)
    assert figures.shed_pct == pytest.approx(100 * 150 / (198 * 100 + 350))
    assert figures.instance_hours == pytest.approx(400 / 60)
    assert figures.cost_vs_oracle == pytest.approx(2 * 199 / (198 + 4))
    assert figures.actions_per_day == pytest.approx(1_440 / 200)
    assert figures.under_accuracy_pct == pytest.approx(100 * (2 / 4) / 199)
    assert figures.over_accuracy_pct == pytest.approx(100 * 198 / 199)
    assert figures.under_time_pct == pytest.approx(100 / 199)
