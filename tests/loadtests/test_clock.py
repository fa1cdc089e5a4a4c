"""The demonstration's clock is real until it is begun, fast afterwards, and the same for everybody who holds it."""

import pickle

from fedbus_loadtests.demo.clock import DemoClock

START_NS = 1_000_000_000_000_000_000
HOUR_NS = 3600 * 10**9


def test_it_starts_at_the_simulated_moment_and_runs_in_real_time(tmp_path):
    clock = DemoClock(tmp_path / "clock", START_NS, 1000.0)
    first, second = clock.now_ns(), clock.now_ns()
    assert START_NS <= first <= second < START_NS + HOUR_NS
    assert clock.real_seconds(5.0) == 5.0
    assert not clock.began


def test_once_begun_it_is_fast_and_never_goes_back(tmp_path):
    clock = DemoClock(tmp_path / "clock", START_NS, 1e6)
    clock.begin()
    last = clock.now_ns()
    while not clock.began:
        now = clock.now_ns()
        assert now >= last
        last = now
    assert clock.now_ns() >= last
    assert clock.real_seconds(1e6) == 1.0
    while clock.monotonic_ns() < START_NS + HOUR_NS:
        pass


def test_a_copy_in_another_process_reads_the_same_time(tmp_path):
    clock = DemoClock(tmp_path / "clock", START_NS, 1000.0)
    copy = pickle.loads(pickle.dumps(clock))
    assert clock.now_ns() <= copy.now_ns() <= clock.now_ns()
    clock.begin()
    while not clock.began:
        pass
    assert clock.now_ns() <= copy.now_ns() <= clock.now_ns()
    late = pickle.loads(pickle.dumps(clock))
    assert clock.now_ns() <= late.now_ns() <= clock.now_ns()
