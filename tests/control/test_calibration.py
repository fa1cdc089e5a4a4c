import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.control.calibration import (
    HIGHEST,
    LOWEST,
    Calibrations,
    Reading,
    SizeCalibration,
    calibrate,
    calibrated_sizes,
)
from fedbus.control.capacity import UNLIMITED, InstanceSize

SECOND = 1_000_000_000
SMALL, LARGE = InstanceSize("small", 1000.0, 1e6), InstanceSize("large", 4000.0)


def reading(eps, *, bps=0.0, latency_ms=5.0, cpu=0.3, size="small"):
    return Reading(size=size, load_eps=eps, load_bps=bps, latency_ms=latency_ms, cpu_share=cpu)


def watched(readings, *, minutes=60, known=None, start_s=0, max_latency_ms=100):
    """The same readings every five seconds."""
    known = known or {}
    for step in range(minutes * 12):
        known = calibrate(known, readings, (SMALL, LARGE), max_latency_ms, (start_s + 5 * step) * SECOND)
    return known


def holds(known, size=SMALL):
    (found,) = calibrated_sizes((size,), known)
    return found


def test_without_readings_a_size_holds_what_is_declared():
    known = watched([])
    assert calibrated_sizes((SMALL, LARGE), known) == (SMALL, LARGE)
    assert known["small"].basis == "declared"
    assert calibrated_sizes((SMALL,), {}) == (SMALL,)


def test_an_instance_whose_cpu_is_above_its_share_holds_less_than_declared():
    known = watched([reading(500.0, cpu=0.85)])
    assert holds(known).events_per_s == pytest.approx(500, rel=0.01)
    assert holds(known).bytes_per_s == 1e6
    assert known["small"].basis == "calibrated: 50% of the events/s declared (then its CPU is full)"


def test_a_small_load_that_keeps_the_cpu_busy_tells_something():
    assert holds(watched([reading(150.0, cpu=0.85)])).events_per_s == pytest.approx(150, rel=0.02)


def test_falling_takes_minutes_and_rising_hours():
    fallen = watched([reading(500.0, cpu=0.85)], minutes=10)
    assert holds(fallen).events_per_s < 520
    risen = watched([reading(500.0, cpu=0.2)], minutes=10, known=fallen, start_s=700)
    assert holds(risen).events_per_s < 620
    later = watched([reading(500.0, cpu=0.2)], minutes=600, known=fallen, start_s=700)
    assert holds(later).events_per_s == pytest.approx(1000, rel=0.01)


def test_a_rate_at_which_answers_are_late_is_too_much():
    known = watched([reading(800.0, latency_ms=200.0)], minutes=30)
    assert holds(known).events_per_s == pytest.approx(720, rel=0.01)
    assert "took longer than promised" in known["small"].basis


def test_one_late_answer_is_noise():
    known = watched([reading(800.0)], minutes=30)
    for late in (True, True, False) * 30:
        known = calibrate(known, [reading(800.0, latency_ms=200.0 if late else 5.0)], (SMALL,), 100, 10**13)
    assert holds(known).events_per_s >= 1000


def test_more_than_declared_is_believed_as_far_as_it_was_carried_and_a_little_more():
    known = watched([reading(1200.0)], minutes=24 * 60)
    assert holds(known).events_per_s == pytest.approx(1500, rel=0.02)
    never = watched([reading(700.0, cpu=0.1)], minutes=24 * 60)
    assert holds(never).events_per_s == 1000
    assert holds(watched([reading(1200.0, latency_ms=None)], minutes=600)).events_per_s == 1000, "no latency, no proof"
    far = watched([reading(50_000.0, cpu=0.2)], minutes=24 * 60)
    assert holds(far).events_per_s <= HIGHEST * 1000


def test_bytes_are_judged_apart_from_events():
    known = watched([reading(10.0, bps=5e5, cpu=0.85)])
    assert holds(known).events_per_s == 1000
    assert holds(known).bytes_per_s == pytest.approx(5e5, rel=0.01)


def test_idle_instances_and_other_sizes_tell_nothing():
    known = watched([reading(40.0, cpu=0.9), reading(150.0, cpu=0.3), reading(3000.0, cpu=0.85, size="huge")])
    assert holds(known) == SMALL
    assert set(known) == {"small", "large"}


def test_instances_that_differ_hold_together_what_they_hold_one_by_one():
    known = watched([reading(500.0, cpu=0.85), reading(500.0, cpu=0.45)])
    assert holds(known).events_per_s == pytest.approx((500 + 1000) / 2, rel=0.01)


def test_a_new_declaration_starts_anew():
    known = watched([reading(500.0, cpu=0.85)])
    declared = InstanceSize("small", 600.0, 1e6)
    assert calibrated_sizes((declared,), known) == (declared,)
    assert calibrate(known, [], (declared,), 100, 10**15)["small"] == SizeCalibration(600.0, 1e6)


def test_what_was_learned_crosses_json():
    known = watched([reading(500.0, cpu=0.85), reading(3000.0, size="large")])
    assert msgspec.json.decode(msgspec.json.encode(known), type=Calibrations) == known


NUMBERS = st.floats(-10, 1e9) | st.sampled_from([0.0, float("nan"), float("inf"), 1e300])
READINGS = st.builds(
    Reading,
    size=st.sampled_from(["small", "large", "gone"]),
    load_eps=NUMBERS,
    load_bps=NUMBERS,
    latency_ms=st.none() | NUMBERS,
    cpu_share=st.none() | NUMBERS,
)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.lists(READINGS, max_size=5), st.integers(-100, 10**6)), max_size=30))
def test_whatever_is_read_the_capacity_stays_within_its_bounds(rounds):
    known, now_s = {}, 10**6
    for readings, passed_s in rounds:
        now_s += passed_s
        known = calibrate(known, readings, (SMALL, LARGE), 100, now_s * SECOND)
        for size in (SMALL, LARGE):
            found = holds(known, size)
            assert LOWEST <= found.events_per_s / size.events_per_s <= HIGHEST
            assert found.bytes_per_s == UNLIMITED or LOWEST <= found.bytes_per_s / size.bytes_per_s <= HIGHEST
            assert known[size.name].basis
