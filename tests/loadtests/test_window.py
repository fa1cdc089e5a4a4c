"""Which part of a series the demonstration replays."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.clock import NS_PER_S
from fedbus.control.trace import Trace
from fedbus.errors import ConfigurationError
from fedbus_loadtests.demo.window import DAY_S, HISTORY_DAYS, choose_window, filled, smoothed

START_NS = 1_700_000_000 * NS_PER_S


def daily(days: float, step_s: int = 600, swing: float = 0.6, burst_at: int | None = None) -> Trace:
    """A sine a day, at night low; ``burst_at``: a slot with ten times the load for an hour."""
    slots = int(days * DAY_S / step_s)
    events = [step_s * (1 - swing * math.cos(2 * math.pi * slot * step_s / DAY_S)) for slot in range(slots)]
    if burst_at is not None:
        for slot in range(burst_at, burst_at + 3600 // step_s):
            events[slot] *= 10
    return Trace(START_NS, step_s, tuple(events))


@pytest.mark.parametrize("step_s", [60, 300, 1800, 3600])
def test_it_lies_after_the_history_and_rises_and_falls(step_s):
    trace = daily(20, step_s)
    window = choose_window(trace)
    assert window.start_ns >= trace.start_ns + HISTORY_DAYS * DAY_S * NS_PER_S
    assert window.start_ns < window.peak_ns < window.end_ns <= trace.end_ns
    assert window.rise > 1.25


def test_a_burst_that_no_day_before_promised_does_not_make_a_window():
    at = 16 * 144 + 12  # in the small hours of day 16
    window = choose_window(daily(20, burst_at=at))
    burst_ns = START_NS + at * 600 * NS_PER_S
    assert not window.start_ns <= burst_ns < window.end_ns


def test_a_trace_that_is_too_short_says_how_much_is_needed():
    with pytest.raises(ConfigurationError, match=r"covers 14\.0 days: 14 days of history and 4 hours"):
        choose_window(daily(14))


def test_a_flat_trace_is_refused():
    with pytest.raises(ConfigurationError, match="nothing to scale for"):
        choose_window(daily(20, swing=0.0))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1e6), st.just(math.nan)), min_size=14 * 24 + 4, max_size=18 * 24))
def test_any_series_gives_a_window_inside_it_or_a_clear_refusal(events):
    trace = Trace(START_NS, 3600, tuple(events))
    try:
        window = choose_window(trace)
    except ConfigurationError:
        return
    assert trace.start_ns <= window.start_ns < window.peak_ns < window.end_ns <= trace.end_ns
    assert 0 < window.start_eps < window.peak_eps


@given(st.lists(st.one_of(st.floats(0, 1e6), st.just(math.nan))))
def test_filling_leaves_no_gap_and_keeps_what_is_known(values):
    result = filled(values)
    assert len(result) == len(values)
    assert all(found == value for found, value in zip(result, values, strict=True) if not math.isnan(value))
    assert not any(math.isnan(value) for value in result)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(0, 10))
def test_smoothing_stays_within_the_range(values, span):
    result = smoothed(values, span)
    assert len(result) == len(values)
    assert min(values) - 1e-3 <= min(result)
    assert max(result) <= max(values) + 1e-3
