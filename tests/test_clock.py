"""The clocks: what a reading means, and that simulated time keeps its proportion to real time."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.clock import NS_PER_S, Clock, ManualClock, ScaledClock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), ScaledClock(start_ns=0, speed=1000.0), ManualClock()])
def test_monotonic_time_never_goes_back(clock: Clock):
    readings = [clock.monotonic_ns() for _ in range(1000)]
    assert readings == sorted(readings)


def test_a_scaled_clock_starts_at_its_start_and_runs_ahead(monkeypatch: pytest.MonkeyPatch):
    real_ns = 1_000 * NS_PER_S
    monkeypatch.setattr("fedbus.clock.time.time_ns", lambda: real_ns)
    clock = ScaledClock(start_ns=5 * NS_PER_S, speed=60.0, anchor_ns=real_ns)
    assert clock.now_ns() == 5 * NS_PER_S
    real_ns += 2 * NS_PER_S
    assert clock.now_ns() == 125 * NS_PER_S


@given(speed=st.floats(min_value=0.001, max_value=1e6), simulated_s=st.floats(min_value=0, max_value=1e6))
def test_a_wait_lasts_as_long_as_the_clock_needs_to_get_there(speed: float, simulated_s: float):
    clock = ScaledClock(start_ns=0, speed=speed, anchor_ns=0)
    assert clock.real_seconds(simulated_s) * speed == pytest.approx(simulated_s)


def test_processes_that_share_a_scaled_clock_read_the_same_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedbus.clock.time.time_ns", lambda: 77 * NS_PER_S)
    here = ScaledClock(start_ns=10**18, speed=720.0, anchor_ns=70 * NS_PER_S)
    there = pickle.loads(pickle.dumps(here))
    assert there.now_ns() == here.now_ns() == 10**18 + 7 * 720 * NS_PER_S


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_clock_that_would_not_run_forward_is_refused(speed: float):
    with pytest.raises(ValueError, match="greater than 0"):
        ScaledClock(start_ns=0, speed=speed)


def test_a_manual_clock_moves_only_when_told_and_both_readings_together():
    clock = ManualClock(wall_ns=1_700_000_000 * NS_PER_S)
    assert clock.now_ns() == clock.now_ns()
    clock.advance(1.5)
    assert clock.now_ns() == 1_700_000_001_500_000_000
    assert clock.monotonic_ns() == 1_500_000_000
    with pytest.raises(AssertionError):
        clock.advance(-1)


def test_real_clocks_wait_as_long_as_they_say():
    assert SystemClock().real_seconds(2.5) == 2.5
    assert ManualClock().real_seconds(2.5) == 2.5
