"""The forecaster, as a plain object: several regions, fits in the background one at a time, answers meanwhile."""

from __future__ import annotations

import math
from threading import Event, Lock

import pytest

from fedbus.control.forecast.engine import ForecastEngine
from fedbus.control.forecast.settings import EngineSettings
from fedbus.control.load import LoadSample
from fedbus.control.load_model import MINUTE_NS, LoadModel
from fedbus_actors.forecast_request import ForecastRequest
from fedbus_actors.forecaster import Forecaster
from tests.federation.waiting import until

START_NS = 1_749_427_200_000_000_000
REGIONS = ("aws.us-east-1", "gcp.europe-west1", "onprem.berlin")


def asked(region, samples, *, known_until_ns=0, now_ns=None):
    newest_ns = samples[-1].time_ns + MINUTE_NS if samples else START_NS
    return ForecastRequest(
        region, 60, known_until_ns, samples, (), now_ns or newest_ns, 3600.0, 120.0, EngineSettings()
    )  # fmt: skip


def days(seed, count):
    return list(LoadModel(seed=seed).samples(START_NS, START_NS + count * 1440 * MINUTE_NS))


@pytest.fixture
def fits(monkeypatch):
    """Lets a fit go on only when it is told to; counts how many are under way."""

    class Fits:
        under_way, most, begun = 0, 0, 0
        go = Event()

    lock, fit = Lock(), ForecastEngine.fit

    def counted(engine, *arguments):
        with lock:
            Fits.under_way, Fits.begun = Fits.under_way + 1, Fits.begun + 1
            Fits.most = max(Fits.most, Fits.under_way)
        Fits.go.wait(60)
        try:
            return fit(engine, *arguments)
        finally:
            with lock:
                Fits.under_way -= 1

    monkeypatch.setattr(ForecastEngine, "fit", counted)
    yield Fits
    Fits.go.set()


def test_regions_are_fitted_one_at_a_time_and_answered_meanwhile(fits):
    forecaster = Forecaster()
    histories = {region: days(seed, 3) for seed, region in enumerate(REGIONS)}
    for region, samples in histories.items():
        answer = forecaster.forecast(asked(region, samples))
        assert answer.forecast.basis == "fallback"  # nothing is fitted yet, and nobody waits for that
        assert answer.known_until_ns == samples[-1].time_ns + MINUTE_NS
    until(lambda: fits.begun, 20, "a fit begins")
    assert not forecaster.ready()
    again = {region: asked(region, [], known_until_ns=samples[-1].time_ns + MINUTE_NS, now_ns=samples[-1].time_ns)
             for region, samples in histories.items()}  # fmt: skip
    assert all(forecaster.forecast(request).forecast is not None for request in again.values())
    assert (fits.begun, fits.most) == (1, 1)
    fits.go.set()
    until(forecaster.ready, 120, "all are fitted")
    assert (fits.begun, fits.most) == (3, 1)
    assert {forecaster.forecast(request).forecast.basis for request in again.values()} == {"model"}


def test_a_forecaster_that_lost_its_memory_asks_for_the_history_again():
    forecaster, samples = Forecaster(), days(1, 1)
    known_ns = samples[600].time_ns
    answer = forecaster.forecast(asked("r", samples[600:], known_until_ns=known_ns))
    assert (answer.known_until_ns, answer.forecast) == (0, None)
    assert forecaster.forecast(asked("r", samples)).forecast is not None


def test_a_region_without_a_history_gets_no_forecast():
    answer = Forecaster().forecast(asked("r", []))
    assert (answer.known_until_ns, answer.forecast) == (0, None)


@pytest.mark.parametrize("events", [0.0, 1e18, math.nan])
def test_an_odd_history_is_answered_by_the_fallback(events):
    samples = [LoadSample(START_NS + n * MINUTE_NS, events) for n in range(30)]
    forecast = Forecaster().forecast(asked("r", samples)).forecast
    assert forecast.basis == "fallback"
    assert forecast.sane
