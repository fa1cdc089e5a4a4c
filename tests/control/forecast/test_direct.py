from itertools import pairwise

import numpy as np
import pytest

from fedbus.control.forecast.direct import DirectForecaster
from fedbus.control.forecast.engine import ForecastEngine
from fedbus.control.forecast.protocol import BUDGETS, QUANTILES
from fedbus.control.forecast.series import SlotSeries, native_grain, rate_series
from fedbus.control.forecast.spread import tail_quantiles
from fedbus.control.load import NS_PER_S, LoadHistory, LoadSample

DAY_NS = 86_400 * NS_PER_S
START_NS = 20_090 * DAY_NS  # a Thursday


def noisy(days, seed, weekend=1.0, per_day=288, parts=5, events=60.0):
    """A day cycle of Poisson minutes, in events/s; weekends at ``weekend`` of it."""
    slot = np.arange(days * per_day)
    level = events * (1.2 + np.sin(2 * np.pi * slot / per_day)) * np.where(slot // per_day % 7 >= 5, weekend, 1.0)
    minutes = np.random.default_rng(seed).poisson(level[:, None], (len(slot), parts)) / 60.0
    return SlotSeries(minutes.mean(axis=1), 0, 86_400 // per_day, minutes), level / 60.0


def scores(series, level, train_days, leads, stride=7):
    """Errors of direct and of yesterday against the true level, and coverage of the 95 % bound of minutes."""
    day = series.slots_per_day
    fitted = DirectForecaster().fit(series.head(train_days * day))
    errors, naive, hits = [], [], []
    for origin in range(train_days * day, len(series.values) - leads, stride):
        path, bounds = fitted.forward_with_bounds(series.head(origin), leads)
        errors.append(np.abs(path - level[origin : origin + leads]).mean())
        naive.append(np.abs(series.values[origin - day : origin - day + leads] - level[origin : origin + leads]).mean())
        hits.append(series.minutes[origin : origin + leads] <= bounds[:, [QUANTILES.index(0.95)]])
    return np.mean(errors), np.mean(naive), np.mean(hits)


def test_it_beats_yesterday_and_its_bounds_hold_for_minutes():
    error, naive, covered = scores(*noisy(10, 1), 8, 3)
    assert error < 0.5 * naive
    assert 0.93 <= covered <= 0.97


def test_it_learns_the_week():
    series, level = noisy(28, 2, weekend=0.3)
    day = series.slots_per_day
    saturday, yesterday = slice(26 * day, 27 * day), slice(25 * day, 26 * day)  # that was three times as much
    fitted = DirectForecaster().fit(series.head(25 * day))
    ahead = [fitted.forward(series.head(origin), 2)[1] for origin in range(26 * day - 1, 27 * day - 1)]
    error = np.abs(ahead - level[saturday]).mean()
    assert error < 0.15 * np.abs(series.values[yesterday] - level[saturday]).mean()


def test_long_horizons_short_days_and_few_days_give_finite_paths():
    for days, per_day in ((2, 288), (3, 96), (5, 24)):
        series, _ = noisy(days, 3, per_day=per_day)
        path, bounds = DirectForecaster().fit(series).forward_with_bounds(series, 2 * per_day)
        assert path.shape == (2 * per_day,)
        assert bounds.shape == (2 * per_day, len(QUANTILES))
        assert np.isfinite(path).all()
        assert (np.diff(bounds, axis=1) >= 0).all()


def test_prices_fall_with_the_budget():
    fitted = DirectForecaster().fit(noisy(6, 4)[0])
    for lead in (0, 1, 11, 100, 10_000):
        prices = [fitted.prices_at(lead)[budget] for budget in BUDGETS]
        assert all(later <= earlier for earlier, later in pairwise(prices))


def test_a_load_that_is_always_zero_is_refused():
    with pytest.raises(ValueError, match="zero"):
        DirectForecaster().fit(SlotSeries(np.zeros(1000), 0, 300))


@pytest.mark.parametrize("heavy", [False, True])
def test_the_tail_is_told_from_more_than_the_largest_value(heavy):
    rng = np.random.default_rng(5)
    levels = np.array([0.5, 0.95, 0.99, 0.999])
    draw = (lambda size: rng.pareto(5.0, size)) if heavy else (lambda size: rng.exponential(1.0, size))
    truth = (1 - levels) ** (-1 / 5.0) - 1 if heavy else -np.log(1 - levels)
    found = np.mean([tail_quantiles(draw(3000), levels) for _ in range(20)], axis=0)
    np.testing.assert_allclose(found, truth, rtol=0.12)


def test_half_hours_spread_over_minutes_are_known_for_what_they_are():
    rng = np.random.default_rng(6)
    half_hours = rng.poisson(600, 48 * 4) * 1.0
    history = LoadHistory()
    for minute in range(len(half_hours) * 30):
        history.append(LoadSample(START_NS + minute * 60 * NS_PER_S, half_hours[minute // 30] / 30))
        if minute >= (len(half_hours) - 4) * 30:  # whatever part of the newest slot was measured
            assert native_grain(rate_series(history, 300, 10_000), 6) == 6
    assert native_grain(rate_series(history, 300, 10_000), 1) == 6
    made = ForecastEngine("eu")
    made.observe(history)
    made.adopt(made.fit(history))
    forecast = made.forecast(history.end_ns, 3600)
    assert forecast.slot_s == 300
    assert forecast.model != "reactive"
    assert all(len(set(forecast.point_eps[start : start + 6])) == 1 for start in range(0, 12, 6))
    assert native_grain(noisy(4, 7)[0], 1) == 1


def test_the_series_grows_as_the_history_does():
    rng = np.random.default_rng(8)
    history, known = LoadHistory(maximum_slots=4000), None
    for minute in range(5000):
        if rng.random() > 0.1:
            history.append(LoadSample(START_NS + minute * 60 * NS_PER_S, float(rng.poisson(50))))
        if minute % 7 == 0 and len(history):
            known = rate_series(history, 300, 600, known)
            anew = rate_series(history, 300, 600)
            assert (known.first_slot, known.end_slot) == (anew.first_slot, anew.end_slot)
            np.testing.assert_array_equal(known.values, anew.values)
            np.testing.assert_array_equal(known.minutes, anew.minutes)
