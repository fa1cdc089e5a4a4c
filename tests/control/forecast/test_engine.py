import math
from copy import deepcopy
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedbus.control.assurance import Assurance
from fedbus.control.forecast.engine import EngineSettings, ForecastEngine
from fedbus.control.forecast.protocol import Forecast
from fedbus.control.forecast.seasonal import ProfileLevel, SeasonalNaive
from fedbus.control.forecast.settings import MODELS
from fedbus.control.load import NS_PER_S, LoadHistory, LoadSample
from fedbus.control.load_model import LoadModel
from fedbus.control.trigger import Trigger

MINUTE = 60 * NS_PER_S
DAY = 24 * 60 * MINUTE
START = 1735516800 * NS_PER_S  # a Monday, 00:00
MODEL = LoadModel(seed=11, mean_eps=500.0)


def history(start_ns, end_ns):
    result = LoadHistory()
    result.extend(MODEL.samples(start_ns, end_ns))
    return result


@cache
def fitted(days, models):
    """What so many days of the load model were fitted to: the same for all tests, because it takes seconds."""
    seen = history(START, START + round(days * DAY))
    made = ForecastEngine("eu", EngineSettings(models=models))
    made.observe(seen)
    return tuple(seen.samples()), made.fit(seen)


def engine(days=8, models=MODELS, **knobs):
    """An engine that saw so many days of the load model, fitted; the other knobs are none that a fit looks at."""
    samples, found = fitted(days, models)
    result, seen = ForecastEngine("eu", EngineSettings(models=models, **knobs)), LoadHistory()
    seen.extend(samples)
    result.observe(seen)
    result.adopt(deepcopy(found))  # live forecasts are scored in its records
    return result, seen, START + round(days * DAY)


def test_with_two_weeks_a_model_forecasts_the_day_ahead_better_than_yesterday():
    made, _, now_ns = engine(14, ("direct", "mstl", "profile", "seasonal_naive"))
    forecast = made.forecast(now_ns, 24 * 3600)
    assert forecast.basis == "model"
    assert forecast.mase < 0.6
    assert len(forecast.point_eps) == 288
    truth = np.array([MODEL.rate_eps(forecast.slot_start_ns(slot)) for slot in range(288)])
    yesterday = np.array([MODEL.rate_eps(forecast.slot_start_ns(slot) - DAY) for slot in range(288)])
    assert np.abs(np.array(forecast.point_eps) - truth).mean() < 0.8 * np.abs(yesterday - truth).mean()


def test_bounds_hold_about_as_often_as_they_say():
    made, seen, now_ns = engine()
    hits, total = 0, 0
    for tick in range(144):
        at_ns = now_ns + tick * 5 * MINUTE
        forecast = made.forecast(at_ns, 3600)
        actual = sum(MODEL.events(at_ns // MINUTE + minute) for minute in range(5)) / 300
        hits += actual <= forecast.quantiles[0.95][0]
        total += 1
        seen.extend(MODEL.samples(at_ns, at_ns + 5 * MINUTE))
        made.observe(seen)
    assert 0.88 <= hits / total <= 1.0
    assert len(made._records["arima"]) > 100  # live forecasts were scored, too


def test_a_forecast_is_sane_ordered_in_its_quantiles_and_crosses_json():
    made, _, now_ns = engine()
    forecast = made.forecast(now_ns + 90 * NS_PER_S, 3600)
    assert forecast.start_ns == now_ns  # the slot under way
    assert forecast.end_ns >= now_ns + 90 * NS_PER_S + 3600 * NS_PER_S
    assert forecast.sane
    paths = np.array([forecast.quantiles[q] for q in sorted(forecast.quantiles)])
    assert (np.diff(paths, axis=0) >= 0).all()
    assert msgspec.json.decode(msgspec.json.encode(forecast), type=Forecast) == forecast
    assert forecast.level(0.94) == 0.95
    assert forecast.level(0.99999) == 0.9995


@pytest.mark.parametrize("minutes", [0, 1, 30, 600])
def test_short_history_is_an_honest_reactive_fallback(minutes):
    made, seen, now_ns = engine(minutes / 1440)
    forecast = made.forecast(now_ns, 3600)
    assert (forecast.basis, forecast.model) == ("fallback", "reactive")
    assert "too short" in forecast.note
    expected = max((events / 60 for events in seen.events[-15:]), default=0.0)
    assert forecast.point_eps[0] <= expected + 1e-9


class Broken(SeasonalNaive):
    """A forecaster that goes wrong in a chosen way."""

    def __init__(self, how):
        super().__init__(name="broken")
        object.__setattr__(self, "how", how)

    def fit(self, series):
        if self.how == "fit":
            raise RuntimeError("no convergence")
        return self

    def forward(self, window, horizon):
        right = super().forward(window, horizon)
        if self.how == "raise":
            raise RuntimeError("boom")
        return right * {"nan": math.nan, "absurd": 1e9, "inf": math.inf, "negative": -1.0}.get(self.how, 1.0)


@pytest.mark.parametrize("how", ["fit", "raise", "nan", "inf", "absurd"])
def test_a_model_that_fails_gives_way_to_the_next_and_is_named(how):
    made = ForecastEngine("eu", forecasters=[Broken(how), ProfileLevel(), SeasonalNaive()])
    seen = history(START, START + 4 * DAY)
    made.observe(seen)
    made.adopt(made.fit(seen))
    forecast = made.forecast(START + 4 * DAY, 3600)
    assert forecast.basis == "model"
    assert forecast.model in {"profile", "seasonal_naive", "weighted"}
    assert "broken" in forecast.note


def test_a_model_that_breaks_after_its_fit_gives_way_too():
    made = ForecastEngine("eu", forecasters=[Broken("well"), SeasonalNaive()])
    seen = history(START, START + 4 * DAY)
    made.observe(seen)
    made.adopt(made.fit(seen))
    object.__setattr__(made._fitted["broken"], "how", "raise")
    forecast = made.forecast(START + 4 * DAY, 3600)
    assert forecast.model == "seasonal_naive"
    assert "broken failed (RuntimeError: boom)" in forecast.note


def test_a_model_that_was_wrong_lately_is_not_believed():
    made, _, now_ns = engine(largest_mase=0.01)
    forecast = made.forecast(now_ns, 3600)
    assert forecast.basis == "fallback"
    assert "no model was accurate lately" in forecast.note


def test_without_recent_metrics_only_the_season_is_believed():
    made, _, now_ns = engine()
    forecast = made.forecast(now_ns + 3 * 3600 * NS_PER_S, 3600)
    assert forecast.model in {"seasonal_naive", "reactive"}
    assert "recent load was not measured" in forecast.note
    assert made.forecast(now_ns + 60 * DAY, 3600).basis == "fallback"


def test_a_level_that_jumps_is_followed_by_the_forecast():
    made, seen, now_ns = engine()
    tripled = [LoadSample(each.time_ns, 3 * each.events) for each in MODEL.samples(now_ns, now_ns + 60 * MINUTE)]
    seen.extend(tripled)
    made.observe(seen)
    forecast = made.forecast(now_ns + 60 * MINUTE, 3600)
    assert max(forecast.quantiles[0.95][:2]) > 2 * MODEL.rate_eps(now_ns + 60 * MINUTE)
    assert forecast.normal_eps[0] < 1.6 * MODEL.rate_eps(now_ns + 60 * MINUTE)


def test_an_announced_campaign_does_not_count_as_an_error_of_the_model():
    bounds = {}
    campaign = Trigger(
        id="c", start_ns=START + 8 * DAY + 60 * MINUTE, end_ns=START + 8 * DAY + 180 * MINUTE, expected_factor=3
    )
    for told in ((), (campaign,)):
        made, seen, now_ns = engine()
        for tick in range(60):
            at_ns = now_ns + tick * 5 * MINUTE
            made.forecast(at_ns, 3600)
            raised = 3 if campaign.overlaps(at_ns, at_ns + 1) else 1
            news = MODEL.samples(at_ns, at_ns + 5 * MINUTE)
            seen.extend(LoadSample(each.time_ns, raised * each.events) for each in news)
            made.observe(seen, told)
        forecast = made.forecast(now_ns + 300 * MINUTE, 3600)
        bounds[bool(told)] = max(forecast.quantiles[0.95]) / max(forecast.point_eps)
    assert bounds[True] < 1.3 < bounds[False]


def test_nothing_after_now_is_used():
    made, seen, now_ns = engine()
    before = made.forecast(now_ns - 3600 * NS_PER_S, 3600)
    made._waiting.clear()  # nor is it scored against what is to come
    seen.extend(LoadSample(now_ns - minute * MINUTE, 10**7) for minute in range(1, 55))
    made.observe(seen)
    after = made.forecast(now_ns - 3600 * NS_PER_S, 3600)
    assert after.point_eps == before.point_eps


def test_a_fit_is_due_at_first_then_by_age_or_when_history_suffices_for_more():
    made = ForecastEngine("eu")
    assert not made.fit_due(START)
    seen = history(START, START + 2 * DAY)
    made.observe(seen)
    assert made.fit_due(START + 2 * DAY)
    made.adopt(made.fit(seen))
    assert not made.fit_due(START + 2 * DAY)
    assert "arima" not in made._fitted
    seen.extend(MODEL.samples(START + 2 * DAY, START + 3 * DAY))
    made.observe(seen)
    assert made.fit_due(START + 3 * DAY)
    made.adopt(made.fit(seen))
    assert "arima" in made._fitted
    assert not made.fit_due(START + 3 * DAY)
    assert made.fit_due(START + 4 * DAY)


def test_gaps_in_the_history_are_bridged():
    seen = LoadHistory()
    for sample in MODEL.samples(START, START + 4 * DAY):
        hour = (sample.time_ns - START) // (60 * MINUTE)
        if hour % 50 not in {7, 8, 9} and (sample.time_ns // MINUTE) % 11:
            seen.append(sample)
    made = ForecastEngine("eu")
    made.observe(seen)
    made.adopt(made.fit(seen))
    forecast = made.forecast(START + 4 * DAY, 3600)
    assert forecast.basis == "model"
    truth = MODEL.rate_eps(START + 4 * DAY)
    assert 0.6 * truth < forecast.point_eps[0] < 1.5 * truth


EVENTS = st.floats(0, 1e6) | st.sampled_from([0.0, math.nan, math.inf, -1.0, 1e300, 5.0])
RUNS = st.lists(st.tuples(EVENTS, st.integers(1, 400), st.integers(0, 300)), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RUNS, st.integers(-100, 5000), st.sampled_from([(1800, 1800), (3600, 3600), (1800, 600), (1200, 3600)]))
def test_no_history_makes_the_loop_raise_or_the_forecast_mad(runs, delay_min, steps):
    """Runs of one value with gaps between them, in slots so long that a few hundred make days.

    Nine days are looked back on: more than a week, because the week is one of the things to look at.
    """
    slot_s, engine_slot_s = steps
    seen = LoadHistory(slot_s=slot_s)
    slot = START // (slot_s * NS_PER_S)
    made = ForecastEngine("eu", EngineSettings(slot_s=engine_slot_s, history_days=9))
    for value, length, gap in runs:
        slot += gap
        for _ in range(length):
            seen.append(LoadSample(slot * slot_s * NS_PER_S, value))
            slot += 1
        made.observe(seen)
        made.forecast(seen.end_ns, 4 * slot_s)
    made.observe(seen)
    made.adopt(made.fit(seen))
    for later in (0, 5):
        forecast = made.forecast(max(0, seen.end_ns + (delay_min + later) * MINUTE), 6 * 3600)
        assert forecast.sane, forecast
        assert math.isfinite(Assurance(budget=0.005).required_eps(forecast, forecast.start_ns, forecast.end_ns)[0])
        largest = max((each / slot_s for each in seen.events if 0 <= each / slot_s <= 1e12), default=0.0)
        assert max(max(path) for path in forecast.quantiles.values()) <= 3 * largest * (1 + 1e-9) + 1e-9
