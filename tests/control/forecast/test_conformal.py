import numpy as np

from fedbus.control.forecast.conformal import MINIMUM_RESIDUALS, TrackRecord

QUANTILES = (0.5, 0.9, 0.95)


def test_bounds_cover_what_they_say_for_errors_of_any_shape():
    rng = np.random.default_rng(5)
    record = TrackRecord(2, 400, QUANTILES)
    hits = np.zeros(3)
    for step in range(3000):
        actual = 100 * np.exp(rng.exponential(0.3, size=2))
        if step >= 500:
            hits += actual[0] <= np.expm1(np.log1p(100.0) + record.offsets()[0])
        record.add(np.full(2, 100.0), actual)
    assert np.abs(hits / 2500 - QUANTILES).max() < 0.03


def test_bounds_follow_a_change_of_the_errors():
    rng = np.random.default_rng(6)
    record = TrackRecord(1, 200, QUANTILES)
    for _ in range(300):
        record.add(np.array([100.0]), 100 * np.exp(rng.normal(0, 0.01, 1)))
    calm = record.offsets()[0, 2]
    for _ in range(300):
        record.add(np.array([100.0]), 100 * np.exp(rng.normal(0, 0.5, 1)))
    assert record.offsets()[0, 2] > 10 * calm


def test_too_few_errors_give_a_plain_spread_and_nan_is_no_error():
    record = TrackRecord(3, 100, QUANTILES)
    plain = record.offsets()
    assert (np.diff(plain, axis=1) > 0).all()
    assert np.isnan(record.mean_absolute_error(0))
    for _ in range(MINIMUM_RESIDUALS + 1):
        record.add(np.array([10.0, 10.0, 10.0]), np.array([20.0, np.nan, 20.0]))
    assert record.mean_absolute_error(0) == 10.0
    assert np.isnan(record.mean_absolute_error(1))
    np.testing.assert_array_equal(record.offsets()[1], plain[1])
    np.testing.assert_allclose(record.offsets()[0], np.log1p(20) - np.log1p(10))
