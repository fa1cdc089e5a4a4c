"""The adapter of networks, with a network of the test's own: the real one weighs 1.7 GB and is no part of the build."""

import subprocess
import sys

import numpy as np
import pytest

from fedbus.control.forecast import neural
from fedbus.control.forecast.engine import EngineSettings, ForecastEngine
from fedbus.control.forecast.neural import LEADS, NeuralForecaster, require_neural
from fedbus.control.forecast.series import SlotSeries
from fedbus.control.load import LoadHistory
from fedbus.control.load_model import MINUTE_NS, LoadModel
from fedbus.errors import ConfigurationError
from fedbus.options import load_federation
from fedbus_actors.launch import chosen

START_NS = 1_735_516_800 * 10**9
DAY = 1440 * MINUTE_NS


class Linear:
    """A network of one linear layer, trained by least squares: each lead from the last hour and the day before."""

    def __init__(self, values, day):
        self._day = day
        origins = range(day, len(values) - LEADS)
        rows = np.array([self._row(values[:origin]) for origin in origins])
        targets = np.array([values[origin : origin + LEADS] for origin in origins])
        self._weights = np.linalg.lstsq(rows, targets, rcond=None)[0]

    def _row(self, past):
        return np.concatenate([past[-LEADS:], past[-self._day : len(past) - self._day + LEADS], [1.0]])

    def ahead(self, values):
        return self._row(values) @ self._weights


def test_a_network_forecasts_through_the_adapter_and_beyond_its_own_leads():
    at = np.arange(5 * 288)
    level = 100 * (1.5 + np.sin(2 * np.pi * at / 288))
    series = SlotSeries(np.random.default_rng(2).poisson(level * 30) / 30.0, 0, 300)
    fitted = NeuralForecaster(train=Linear).fit(series.head(4 * 288))
    path = fitted.forward(series.head(4 * 288 + 50), 100)
    np.testing.assert_allclose(path, level[4 * 288 + 50 : 4 * 288 + 150], rtol=0.1)
    np.testing.assert_array_equal(fitted.forward(series.head(4 * 288 + 50), 5), path[:5])


def test_the_engine_runs_it_like_any_other():
    seen = LoadHistory()
    seen.extend(LoadModel(seed=4).samples(START_NS, START_NS + 5 * DAY))
    made = ForecastEngine("eu", forecasters=[NeuralForecaster(train=Linear)])
    made.observe(seen)
    made.adopt(made.fit(seen))
    forecast = made.forecast(START_NS + 5 * DAY, 2 * 3600)
    assert forecast.model == "neural"
    assert len(forecast.point_eps) == 24
    assert forecast.mase < 1.0


def without_the_extra(monkeypatch):
    """As on a machine without it, also where it is installed."""
    monkeypatch.setattr(neural, "find_spec", lambda name: None)


def test_asked_for_without_the_extra_it_says_what_to_install(monkeypatch):
    without_the_extra(monkeypatch)
    with pytest.raises(ConfigurationError, match=r"pip install torch==2.13.0 'fedbus\[neural\]'"):
        require_neural()
    with pytest.raises(ConfigurationError, match=r"leave 'neural' out of forecasting\.models"):
        NeuralForecaster().fit(SlotSeries(np.ones(1000), 0, 300))


def test_a_federation_that_asks_for_it_does_not_start_without_the_extra(monkeypatch, tmp_path):
    without_the_extra(monkeypatch)
    (tmp_path / "federation.yaml").write_text("forecasting: {models: [direct, neural]}\n")
    with pytest.raises(ConfigurationError, match="not installed"):
        chosen(load_federation(tmp_path / "federation.yaml", {}), ())


def test_without_the_extra_the_others_forecast_and_the_note_says_what_to_install(monkeypatch):
    without_the_extra(monkeypatch)
    seen = LoadHistory()
    seen.extend(LoadModel(seed=4).samples(START_NS, START_NS + 5 * DAY))
    made = ForecastEngine("eu", EngineSettings(models=("neural", "seasonal_naive")))
    made.observe(seen)
    made.adopt(made.fit(seen))
    forecast = made.forecast(START_NS + 5 * DAY, 3600)
    assert forecast.model == "seasonal_naive"
    assert "fedbus[neural]" in forecast.note


def test_nothing_of_it_is_imported_unless_asked_for():
    program = (
        "import sys, fedbus.control.forecast.engine as e; e.ForecastEngine('eu'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
