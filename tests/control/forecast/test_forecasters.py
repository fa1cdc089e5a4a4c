import numpy as np
import pytest

from fedbus.control.forecast.arima import ArimaForecaster
from fedbus.control.forecast.mstl import MstlForecaster
from fedbus.control.forecast.reactive import Reactive
from fedbus.control.forecast.seasonal import ProfileLevel, SeasonalNaive
from fedbus.control.forecast.series import SlotSeries, rate_series
from fedbus.control.load import LoadHistory, LoadSample

NAN = float("nan")


def day_cycle(days, per_day=288, first_slot=0, level=100.0):
    at = np.arange(first_slot, first_slot + days * per_day)
    return SlotSeries(level * (1.5 + np.sin(2 * np.pi * at / per_day)), first_slot, 86_400 // per_day)


@pytest.mark.parametrize("forecaster", [SeasonalNaive(), ProfileLevel(), ArimaForecaster(), MstlForecaster()])
@pytest.mark.parametrize("first_slot", [0, 131])
def test_a_pure_day_cycle_is_continued_in_phase(forecaster, first_slot):
    rng = np.random.default_rng(1)
    whole = day_cycle(8, first_slot=first_slot)
    noisy = SlotSeries(whole.values * np.exp(rng.normal(0, 0.01, len(whole.values))), first_slot, 300)
    fitted = forecaster.fit(noisy.head(6 * 288))
    for end in (6 * 288, 6 * 288 + 100):
        path = fitted.forward(noisy.head(end), 36)
        np.testing.assert_allclose(path, whole.values[end : end + 36], rtol=0.12)


def test_a_sharp_peak_every_day_is_seen_coming_after_seasons_were_taken_out():
    """Five Fourier terms would smear it; a LOESS season does not."""
    rng = np.random.default_rng(2)
    at = np.arange(10 * 96)
    level = np.where(at % 96 == 40, 400.0, 100.0)
    series = SlotSeries(level * np.exp(rng.normal(0, 0.05, len(at))), 0, 900)
    fitted = MstlForecaster().fit(series.head(9 * 96))
    path = fitted.forward(series.head(9 * 96 + 36), 8)
    np.testing.assert_allclose(path, level[9 * 96 + 36 : 9 * 96 + 44], rtol=0.15)


def test_the_profile_follows_the_recent_level():
    series = day_cycle(4)
    series.values[-6:] *= 2
    path = ProfileLevel().fit(series).forward(series, 3)
    usual = day_cycle(5).values[4 * 288 : 4 * 288 + 3]
    assert (path > 1.4 * usual).all()


def test_reactive_is_the_recent_maximum():
    np.testing.assert_array_equal(Reactive().forward(SlotSeries(np.array([9.0, 1, 5, 2]), 0, 300), 2), [5, 5])
    np.testing.assert_array_equal(Reactive().forward(SlotSeries(np.empty(0), 0, 300), 2), [0, 0])


def test_a_short_hole_is_bridged_and_a_long_one_takes_yesterday():
    values = np.tile(np.arange(1.0, 49.0), 3)  # 48 slots a day
    values[70] = NAN
    values[100:110] = NAN
    filled = SlotSeries(values, 0, 1800).filled().values
    assert filled[69] < filled[70] < filled[71]
    np.testing.assert_array_equal(filled[100:110], np.arange(5.0, 15.0))
    np.testing.assert_array_equal(SlotSeries(np.array([NAN, NAN]), 0, 1800).filled().values, [0, 0])


def test_a_history_becomes_rates_and_its_absurd_values_become_gaps():
    history = LoadHistory(slot_s=600)
    history.extend(LoadSample(600 * slot * 10**9, events) for slot, events in ((7, 600.0), (8, -5.0), (9, 1e300)))
    series = rate_series(history, 300, 5)
    assert series.first_slot == 15
    np.testing.assert_array_equal(series.values, [1.0, NAN, NAN, NAN, NAN])
