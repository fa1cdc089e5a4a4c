import numpy as np
import pytest

from fedbus.control.forecast.combination import COMBINATION, combined, recentred, weights
from fedbus.control.forecast.engine import EngineSettings, ForecastEngine
from fedbus.control.forecast.seasonal import SeasonalNaive
from fedbus.control.load import NS_PER_S, LoadHistory, LoadSample

DAY_MIN = 1440
START_MIN = 20_090 * DAY_MIN


def test_weights_follow_the_errors_and_sum_to_one():
    found = weights({"a": 1.0, "b": 1.02, "c": 1.1, "hopeless": 3.0, "unknown": float("nan")}, 100)
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["a"] > found["b"] > found["c"]
    assert found.keys() == {"a", "b", "c"}


def test_the_longer_somebody_was_better_the_more_he_says():
    shares = [weights({"a": 1.0, "b": 1.05}, forecasts)["a"] for forecasts in (0, 50, 200)]
    assert shares[0] == pytest.approx(0.5)
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize("errors", [{}, {"a": 1.0}, {"a": 1.0, "b": 9.0}, {"a": float("nan"), "b": 1.0}])
def test_one_alone_is_no_combination(errors):
    assert weights(errors, 100) == {}


def test_errors_of_zero_are_no_division_by_zero():
    assert weights({"a": 0.0, "b": 0.0}, 100) == {"a": 0.5, "b": 0.5}


def test_bounds_keep_their_distance_in_the_log_when_the_path_moves():
    path, onto = np.array([10.0, 0.0, 50.0]), np.array([20.0, 0.0, 25.0])
    bounds = np.column_stack([path, 1.5 * path + 1.0])
    moved = recentred(bounds, path, onto)
    np.testing.assert_allclose(moved[:, 0], onto)
    np.testing.assert_allclose((moved[:, 1] + 1) / (onto + 1), (bounds[:, 1] + 1) / (path + 1))
    np.testing.assert_array_equal(combined({"a": path, "b": onto, "c": path}, {"a": 0.5, "b": 0.5}), (path + onto) / 2)


class Tilted(SeasonalNaive):
    """As yesterday, times ``factor``."""

    def __init__(self, name, factor):
        super().__init__(name=name)
        object.__setattr__(self, "factor", factor)

    def forward(self, window, horizon):
        return super().forward(window, horizon) * self.factor


def test_two_that_err_to_opposite_sides_are_best_together():
    """One always says a fifth too much, the other a fifth too little: their mean leads."""
    rng = np.random.default_rng(3)
    seen = LoadHistory()
    for minute in range(3 * DAY_MIN):
        level = 60 * (3 + np.sin(2 * np.pi * minute / DAY_MIN))
        seen.append(LoadSample((START_MIN + minute) * 60 * NS_PER_S, float(rng.poisson(level))))
    trusting = EngineSettings(largest_mase=20.0)  # one day is like the other here, so that the scale is small
    made = ForecastEngine("eu", trusting, [Tilted("over", 1.2), Tilted("under", 0.8)])
    made.observe(seen)
    made.adopt(made.fit(seen))
    forecast = made.forecast(seen.end_ns, 3600)
    assert forecast.model == COMBINATION
    assert forecast.scores[COMBINATION] < 0.5 * min(forecast.scores["over"], forecast.scores["under"])
    yesterday, point = np.array(made.recent(288)[2][:12]), np.array(forecast.point_eps)
    assert (np.abs(point - yesterday) < 0.1 * yesterday).all()
    assert forecast.sane
