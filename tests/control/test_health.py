import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.control.health import (
    STATES,
    SUSPICION_PHI,
    TRANSITIONS,
    Evidence,
    FailureDetector,
    HealthSettings,
    InstanceHealth,
    assess,
)
from fedbus.control.load import NS_PER_S

GOOD = Evidence(actor="alive", phi=0.1, answered=True, round_trip_ms=1.0)
SILENT = msgspec.structs.replace(GOOD, phi=50.0)


def after(state, evidence, seconds=1.0):
    return assess(InstanceHealth(state, 0), evidence, round(seconds * NS_PER_S), HealthSettings())


def test_every_state_has_an_answer_to_every_finding():
    findings = {finding for _, finding in TRANSITIONS}
    assert set(TRANSITIONS) == {(state, finding) for state in STATES for finding in findings}


@pytest.mark.parametrize(
    ("state", "change", "expected"),
    [
        ("starting", {}, "healthy"),
        ("starting", {"answered": False, "phi": 0.0}, "starting"),
        ("healthy", {"phi": SUSPICION_PHI + 1}, "unreachable"),
        ("healthy", {"round_trip_ms": 900.0}, "degraded"),
        ("healthy", {"queue_share": 0.95}, "degraded"),
        ("healthy", {"storage_failed": True}, "degraded"),
        ("healthy", {"draining": True}, "draining"),
        ("healthy", {"actor": "restarting"}, "starting"),
        ("healthy", {"actor": "dead"}, "dead"),
        ("healthy", {"actor": "unknown"}, "healthy"),
        ("unreachable", {}, "healthy"),
        ("draining", {"draining": False}, "draining"),
        ("dead", {"actor": "restarting"}, "dead"),
        ("dead", {}, "starting"),
    ],
)
def test_evidence_moves_an_instance_as_the_table_says(state, change, expected):
    assert after(state, msgspec.structs.replace(GOOD, **change)).state == expected


def test_an_actor_alive_but_silent_is_unreachable_then_dead():
    health = after("healthy", SILENT)
    assert health.state == "unreachable"
    assert "unanswered" in health.reason
    assert assess(health, SILENT, health.since_ns + 30 * NS_PER_S).state == "unreachable"
    gone = assess(health, SILENT, health.since_ns + 61 * NS_PER_S)
    assert gone.state == "dead"
    assert assess(gone, SILENT, gone.since_ns + NS_PER_S) == InstanceHealth("dead", gone.since_ns, gone_reason(gone))


def gone_reason(gone):
    return gone.reason.split(", for")[0]


def test_an_instance_that_never_comes_up_is_given_up():
    waiting = Evidence(actor="pending", phi=0.0, answered=False)
    assert after("starting", waiting, 59).state == "starting"
    assert after("starting", waiting, 61).state == "unreachable"
    assert after("unreachable", waiting, 61).state == "dead"


def test_since_changes_with_the_state_only():
    assert after("healthy", GOOD, 7).since_ns == 0
    assert after("degraded", GOOD, 7).since_ns == 7 * NS_PER_S


def test_suspicion_grows_with_silence_and_an_answer_ends_it():
    detector = FailureDetector(1.0)
    assert detector.phi(10**18) == 0.0
    for second in range(20):
        detector.answered(second * NS_PER_S)
    levels = [detector.phi(round((19 + silence) * NS_PER_S)) for silence in (0.5, 1, 2, 3, 5, 60)]
    assert levels == sorted(levels)
    assert levels[1] < 1 < SUSPICION_PHI < levels[4]
    assert levels[5] == math.inf
    detector.answered(80 * NS_PER_S)
    assert detector.phi(80 * NS_PER_S) < 1
    detector.reset()
    assert detector.phi(10**18) == 0.0


def test_irregular_answers_make_the_detector_patient():
    seed = 4
    rng = random.Random(seed)
    regular, irregular = FailureDetector(1.0), FailureDetector(1.0)
    now_ns = 0
    for second in range(100):
        regular.answered(second * NS_PER_S)
        now_ns += round(rng.choice((0.2, 0.5, 3.0)) * NS_PER_S)
        irregular.answered(now_ns)
    silence_ns = 5 * NS_PER_S
    assert irregular.phi(now_ns + silence_ns) < SUSPICION_PHI < regular.phi(99 * NS_PER_S + silence_ns)


@given(st.lists(st.integers(0, 10**12), max_size=50), st.integers(0, 10**13))
def test_phi_is_a_number_whatever_the_clock_does(times, now_ns):
    detector = FailureDetector(0.5)
    for time_ns in times:
        detector.answered(time_ns)
    assert detector.phi(now_ns) >= 0


def test_whoever_was_stopped_while_it_listened_suspects_nobody():
    detector = FailureDetector(1.0)
    for second in range(20):
        detector.answered(second * NS_PER_S)
    now_ns = (19 + 300) * NS_PER_S
    assert detector.phi(now_ns) == math.inf
    detector.excuse(300 * NS_PER_S)
    assert detector.phi(now_ns) < 1
    assert detector.phi(now_ns + 10 * NS_PER_S) > SUSPICION_PHI


def test_a_failure_is_no_gap_between_answers_and_the_next_one_is_noticed_as_soon():
    detector = FailureDetector(1.0)
    now_ns = 0
    for silence_s in (1, 1, 1, 1, 60, 1, 1, 1, 90, 1, 1):
        now_ns += silence_s * NS_PER_S
        detector.answered(now_ns)
    assert detector.phi(now_ns + 5 * NS_PER_S) > SUSPICION_PHI


def test_phi_is_the_papers():
    """P_later is the tail of a normal distribution with the window's mean and deviation: 3 deviations → 0.00135."""
    detector = FailureDetector(1.0)
    now_ns = 0
    for place in range(200):
        now_ns += NS_PER_S * (2 if place % 2 else 4)
        detector.answered(now_ns)
    assert detector.phi(now_ns + 3 * NS_PER_S) == pytest.approx(-math.log10(0.5))
    assert detector.phi(now_ns + 6 * NS_PER_S) == pytest.approx(-math.log10(0.0013499), abs=1e-3)
