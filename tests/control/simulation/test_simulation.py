import math

import msgspec
import numpy as np
import pytest

from fedbus.control.capacity import InstanceSize
from fedbus.control.load import NS_PER_S
from fedbus.control.simulation.bars import bars, half_way
from fedbus.control.simulation.grid import LoadGrid
from fedbus.control.simulation.policy import POLICIES
from fedbus.control.simulation.predictive import Predictive
from fedbus.control.simulation.simulation import Settings, simulate
from fedbus.control.trace import Trace
from fedbus.control.trigger import Trigger
from tests.control.simulation.traces import daily

DAYS = 2.5


@pytest.fixture(scope="module")
def simulated():
    ticking = iter(range(1_000_000))
    told = []
    sizes = (InstanceSize("small", 4.0, cost=1.0), InstanceSize("big", 16.0, cost=3.0))
    settings = Settings(budget_pct=1.0, sizes=sizes)
    trace = daily(DAYS, seed=11, step_s=300, burst_per_day=1.0)
    found = simulate("made", trace, settings, cpu_s=lambda: next(ticking) * 0.001, progress=told.append)
    return found, told


def test_the_json_is_what_the_contract_says(simulated):
    found, _ = simulated
    document = msgspec.json.decode(msgspec.json.encode(found.as_json()))
    assert document["trace"] == "made"
    assert document["delay_min"] == 5
    assert set(document["policies"]) == set(document["frontier"]) == set(POLICIES)
    for figures in document["policies"].values():
        wanted = {"violation_pct", "violation_min", "shed_pct", "instance_hours", "cost_vs_oracle", "actions_per_day"}
        assert wanted <= figures.keys()
    assert set(document["cost_at_budget"]) == {"0.5", "1"}
    assert set(document["cost_at_budget"]["0.5"]) == set(POLICIES)
    assert {"model", "mase", "mase_seasonal_naive", "coverage_95", "cpu_s_per_tick"} <= document["forecast"].keys()
    assert all(len(point) == 2 for points in document["frontier"].values() for point in points)


def test_progress_goes_up_to_the_end_and_cpu_is_measured_per_tick(simulated):
    found, told = simulated
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert found.forecast.ticks == len(told)
    assert 0 < found.forecast.cpu_s_per_tick < 0.01


def test_no_policy_violates_less_than_the_oracles_or_costs_less_without_violations(simulated):
    found, _ = simulated
    assert found.policies["oracle"].violation_min == found.policies["oracle_delayed"].violation_min == 0
    for outcomes in found.outcomes.values():
        for each in outcomes:
            assert each.violation_min > 0 or each.cost_vs_oracle >= 1.0 - 1e-9


def test_prediction_has_never_less_than_reacting_would_have(simulated):
    found, _ = simulated
    grid = found.grid
    enough = np.ceil(grid.seen()[grid.first :] / grid.capacity - 1e-9)[:-5]
    # What was needed five minutes ago is there by now, unless it has gone since.
    held = np.minimum.reduce([enough[n : len(enough) - 5 + n] for n in range(6)])
    assert (found.serving["predictive"][5 : 5 + len(held)] >= held).all()


def test_sizes_are_compared_by_what_they_would_have_cost(simulated):
    found, _ = simulated
    small, big = found.sizes
    assert small.instance_hours > big.instance_hours
    assert big.cost == pytest.approx(3 * big.instance_hours)


def test_every_bar_is_measured_and_a_miss_says_why(simulated):
    found, _ = simulated
    held = [*bars(found), half_way([found])]
    assert len(held) >= 6
    assert all(each.met or each.why for each in held)


def test_prediction_sees_only_the_past():
    trace = daily(1.5, seed=12)
    change = round(1.2 * 1_440)
    other = Trace(trace.start_ns, 60, (*trace.events[:change], *(3 * each for each in trace.events[change:])))
    there = []
    for each in (trace, other):
        policy = Predictive(LoadGrid.of(each, capacity_eps=1.0), 5, (0.5,))
        policy.run()
        there.append(policy.serving(0.5))
    first = round(1.5 * 1_440) // 2
    assert there[0][: change - first + 1].tolist() == there[1][: change - first + 1].tolist()
    assert there[0][change - first + 10 :].tolist() != there[1][change - first + 10 :].tolist()


@pytest.mark.parametrize(
    ("hours", "missing", "step_s"), [(5, 0.0, 60), (40, 0.3, 60), (60, 0.1, 1_800), (30, 0.0, 3_600)]
)
def test_short_coarse_and_gappy_series_are_simulated_with_a_word_of_warning(hours, missing, step_s):
    found = simulate("made", daily(hours / 24, seed=13, missing=missing, step_s=step_s), Settings(delay_min=2))
    assert found.notes
    assert all(math.isfinite(each.cost_vs_oracle) for each in found.policies.values())
    msgspec.json.encode(found.as_json())


def test_policies_not_asked_for_are_not_simulated():
    found = simulate("made", daily(1, seed=14), Settings(policies=("reactive", "oracle")))
    assert set(found.as_json()["policies"]) == {"reactive", "oracle"}
    assert found.as_json()["forecast"] is None


def with_burst(days, seed, starts, minutes=10, factor=6.0):
    """A daily load with a burst from each of ``starts`` (minutes from the beginning), steep and a bit different."""
    trace = daily(days, seed)
    events = list(trace.events)
    for number, start in enumerate(starts):
        for minute in range(start, start + minutes):
            events[minute] *= factor * (1 + 0.05 * (number % 3))
    return Trace(trace.start_ns, 60, tuple(events))


def violated_between(policy, start, end):
    grid = policy.grid
    load = grid.judged[start - grid.first : end - grid.first]
    return int((load > policy.serving(0.5)[start - grid.first : end - grid.first] * grid.capacity).sum())


def test_a_scheduled_burst_violates_nothing_from_its_second_occurrence_on():
    # Every six hours; the series begins at 15:10 UTC.
    starts = [170 + number * 360 for number in range(7)]
    trace = with_burst(2, 15, starts)
    trigger = Trigger(id="batch", cron="0 */6 * * *", duration_ns=600 * NS_PER_S)
    policy = Predictive(LoadGrid.of(trace), 5, (0.5,), (trigger,))
    policy.run()
    judged = [start for start in starts[1:] if start >= policy.grid.first]
    assert len(judged) >= 3
    assert [violated_between(policy, start, start + 10) for start in judged] == [0] * len(judged)
