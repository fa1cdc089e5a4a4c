import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.control.assurance import MOST_SHRUNK, MOST_WIDENED, Assurance
from fedbus.control.forecast.prices import violation_prices
from fedbus.control.forecast.protocol import BUDGETS, QUANTILES, Forecast
from fedbus.control.load import NS_PER_S

SLOT_NS = 300 * NS_PER_S
LEVELS = np.array(QUANTILES)


def forecast(scales, prices=None, point=100.0):
    """Slots whose load is ``point`` plus an exponential error of each one's scale."""
    rows = point - np.outer(scales, np.log(1 - LEVELS))
    if prices is None:
        prices = dict(zip(BUDGETS, violation_prices(rows, LEVELS, BUDGETS), strict=True))
    return Forecast(
        region="eu", made_at_ns=0, start_ns=0, slot_s=300, model="direct", basis="model",
        point_eps=(point,) * len(scales), normal_eps=(point,) * len(scales), prices=prices,
        quantiles={level: tuple(path) for level, path in zip(QUANTILES, rows.T.tolist(), strict=True)},
    )  # fmt: skip


def needs(made, budget):
    return [
        Assurance(budget=budget).required_eps(made, i * SLOT_NS, (i + 1) * SLOT_NS) for i in range(len(made.point_eps))
    ]


@pytest.mark.parametrize("budget", [0.001, 0.005, 0.02])
def test_the_budget_is_spent_where_capacity_saves_most(budget):
    scales = np.tile([1.0, 30.0], 50)
    made = forecast(scales)
    found = needs(made, budget)
    violated = [math.exp(-(eps - 100.0) / scale) for (eps, _, _), scale in zip(found, scales, strict=True)]
    assert np.mean(violated) == pytest.approx(budget, rel=0.35)
    assert found[0][2] > found[1][2]  # calm slots get the higher level
    uniform = np.mean([100.0 - scale * math.log(np.mean(violated)) for scale in scales])
    assert np.mean([eps for eps, _, _ in found]) <= uniform


def test_the_largest_need_of_the_window_is_told_with_its_time():
    made = forecast(np.array([1.0, 1.0, 40.0, 1.0]))
    eps, at_ns, level = Assurance(budget=0.005).required_eps(made, 100 * NS_PER_S, 4 * SLOT_NS)
    assert at_ns == 2 * SLOT_NS
    assert eps > 150
    assert 0.9 < level < 1
    assert Assurance(budget=0.005).required_eps(made, 9 * SLOT_NS, 10 * SLOT_NS)[0] == 0.0
    assert Assurance(budget=0.005).required_eps(made, 100 * NS_PER_S, SLOT_NS)[1] == 100 * NS_PER_S


def test_without_prices_one_level_serves_all_slots():
    made = forecast(np.array([1.0, 40.0]), prices={})
    for budget in (0.001, 0.004, 0.03, 0.2):
        for eps, _, level in needs(made, budget):
            assert level == pytest.approx(1 - budget)
            assert eps > 100
    assert needs(made, 1e-9)[0][2] == QUANTILES[-1]


def test_a_smaller_budget_never_asks_for_less():
    made = forecast(np.array([1.0, 5.0, 20.0]))
    paths = np.array([[eps for eps, _, _ in needs(made, budget)] for budget in (0.0001, 0.001, 0.005, 0.01, 0.05, 0.3)])
    assert (np.diff(paths, axis=0) <= 1e-9).all()


@pytest.mark.parametrize("budget", [0.001, 0.005, 0.01, 0.02])
@pytest.mark.parametrize("slack", [0.3, 1.0, 2.0])
def test_feedback_delivers_the_budget_though_forecasts_are_off(budget, slack):
    """Violations really come ``slack`` times as often as planned."""
    rng = np.random.default_rng(7)
    assurance, total, violated = Assurance(budget=budget), 0, 0
    for tick in range(20 * 288):
        hits = int(rng.binomial(5, min(1.0, slack * assurance.planned_budget)))
        assurance = assurance.seen(5, hits)
        if tick >= 288:
            total, violated = total + 5, violated + hits
    assert abs(violated / total - budget) <= 0.003


def test_what_a_burst_takes_from_the_plan_is_bounded_and_forgotten():
    struck = Assurance(budget=0.005).seen(240, 240)
    assert struck.planned_budget == pytest.approx(0.005 / MOST_SHRUNK)
    for _ in range(7 * 288):
        struck = struck.seen(5, 0)
    assert struck.planned_budget > 0.004


def test_a_small_budget_follows_a_burst_less_than_a_large_one():
    small, large = (Assurance(budget=budget).seen(60, 60) for budget in (0.001, 0.01))
    assert small.planned_budget / small.budget > large.planned_budget / large.budget


@given(st.lists(st.tuples(st.integers(-5, 10_000), st.integers(0, 10_000)), max_size=20), st.floats(1e-6, 0.9))
def test_whatever_is_seen_the_plan_stays_within_bounds_and_crosses_json(seen, budget):
    assurance = Assurance(budget=budget)
    for minutes, violated in seen:
        assurance = assurance.seen(minutes, violated)
    assert 1e-5 <= assurance.planned_budget <= 0.5
    assert assurance.planned_budget <= max(1e-5, budget * MOST_WIDENED * (1 + 1e-9))
    assert msgspec.json.decode(msgspec.json.encode(assurance), type=Assurance) == assurance
    assert math.isfinite(assurance.required_eps(forecast(np.array([1.0, 3.0])), 0, SLOT_NS)[0])
