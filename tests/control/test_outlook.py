"""What triggers make one expect, on loads made from seeds: the bar is that a burst surprises once and never again."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.control.expected import Expected, largest
from fedbus.control.load import LoadHistory, LoadSample
from fedbus.control.load_model import MINUTE_NS, LoadModel
from fedbus.control.outlook import Outlook
from fedbus.control.trigger import Trigger, Window

START = 1735516800 * 10**9  # a Monday, 00:00
FIRST = START // MINUTE_NS
DAY = 1440
DELAY = 5
"""Minutes from ordering an instance to its service."""


class Slots:
    """Minutes known so far, as a simulation holds them."""

    slot_s = 60

    def __init__(self, events, first_slot=FIRST):
        self.events = events
        self.first_slot = first_slot


def load_of(seed, days, mean_eps=500.0):
    model = LoadModel(seed=seed, mean_eps=mean_eps)
    return [float(each.events) for each in model.samples(START, START + days * DAY * MINUTE_NS)]


def with_bursts(load, starts, minutes, shape):
    for start in starts:
        for minute in range(minutes):
            load[start + minute] = shape(load[start + minute])
    return load


def violations(load, triggers, windows, *, detect=False):
    """Per window (minutes) the violations if only what triggers expect, and the load a while ago, is provided."""
    outlook, needs, expected = Outlook("eu", detect=detect), [], ()
    for minute in range(len(load)):
        now_ns = (FIRST + minute) * MINUTE_NS
        if minute % 5 == 0:
            known = Slots(load[: max(0, minute - 1)])
            expected = outlook.expect(known, triggers, now_ns, now_ns + (DELAY + 30) * MINUTE_NS)
        floor = largest(expected, now_ns, now_ns + (DELAY + 1) * MINUTE_NS)
        needs.append(max(60 * floor[0] if floor else 0.0, load[max(0, minute - 2)]))
    served = [max(needs[max(0, minute - DELAY - 4) : minute - DELAY + 1], default=0.0) for minute in range(len(load))]
    return [sum(load[minute] > served[minute] for minute in range(*window)) for window in windows]


def around(starts, minutes):
    return [(start - 2, start + minutes) for start in starts]


def minute(number):
    return START + number * MINUTE_NS


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("announced", [1.0, 2.0, 9.0])
def test_a_scheduled_burst_surprises_once_whatever_was_announced(seed, announced):
    starts = [day * DAY + 540 for day in range(5)]
    load = with_bursts(load_of(seed, 5), starts, 30, lambda events: 4 * events)
    trigger = Trigger(id="t", cron="0 9 * * *", duration_ns=30 * MINUTE_NS, expected_factor=announced)
    first, *later = violations(load, [trigger], around(starts, 30))
    assert later == [0, 0, 0, 0]
    assert (first == 0) == (announced > 4)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_campaign_at_any_time_of_day_surprises_once(seed):
    starts = [2040, 5520, 7400, 9340]
    load = with_bursts(load_of(seed, 8), starts, 90, lambda events: 3 * events)
    windows = [Window(minute(start), minute(start + 90)) for start in starts]
    trigger = Trigger(id="t", start_ns=windows[0].start_ns, end_ns=windows[0].end_ns, also=tuple(windows[1:]))
    first, *later = violations(load, [trigger], around(starts, 90))
    assert first > 0
    assert later == [0, 0, 0]


@pytest.mark.parametrize("seed", [5, 6])
def test_a_task_that_adds_load_every_hour_surprises_once(seed):
    starts = [hour * 60 + 15 for hour in range(30)]
    load = with_bursts(load_of(seed, 2), starts, 3, lambda events: events + 180_000)
    trigger = Trigger(id="t", cron="15 * * * *", duration_ns=5 * MINUTE_NS)
    first, *later = violations(load, [trigger], around(starts, 3))
    assert first > 0
    assert not any(later)


@pytest.mark.parametrize("seed", [7, 8])
def test_a_daily_burst_nobody_announced_is_provided_for_from_its_fourth_day_on(seed):
    starts = [day * DAY + 540 for day in range(6)]
    load = with_bursts(load_of(seed, 6), starts, 10, lambda events: 4 * events)
    told = violations(load, [], around(starts, 10), detect=True)
    assert all(told[:3])
    assert told[3:] == [0, 0, 0]


def expected_of(load, trigger, now, until=60):
    (found,) = Outlook("eu", detect=False).expect(Slots(load[:now]), [trigger], minute(now), minute(now + until))
    return found


def test_what_is_expected_says_where_it_comes_from():
    load = [6000.0] * (4 * DAY)
    with_bursts(load, [DAY + 540, 2 * DAY + 540], 12, lambda events: 4.2 * events)
    trigger = Trigger(id="t", name="report", cron="0 9 * * *", duration_ns=30 * MINUTE_NS, start_ns=minute(DAY))
    learned = expected_of(load, trigger, 3 * DAY + 530)
    assert (learned.origin, learned.why) == ("learned", "learned from 2 occurrences: × 4.2, 12 min")
    eps, at_ns, why = largest([learned], minute(3 * DAY + 530), minute(3 * DAY + 560))
    assert 420 <= eps <= 1.2 * 420
    assert minute(3 * DAY + 535) <= at_ns <= minute(3 * DAY + 540)
    assert "trigger 'report' is expected to bring" in why
    assert largest([learned], minute(3 * DAY + 560), minute(3 * DAY + 570)) is None  # twelve minutes, not thirty
    guessed = expected_of(load, msgspec.structs.replace(trigger, expected_factor=2.0), DAY + 530)
    assert (guessed.origin, guessed.why) == ("announced", "as announced: × 2")
    assert guessed.between(minute(DAY + 541), minute(DAY + 542))[0] == pytest.approx(220)


def test_one_occurrence_without_effect_says_little_and_three_say_enough():
    load = [6000.0] * (6 * DAY)
    trigger = Trigger(id="t", cron="0 9 * * *", duration_ns=30 * MINUTE_NS, expected_factor=3.0, start_ns=START)
    assert expected_of(load, trigger, DAY + 530).origin == "announced"
    outlook = Outlook("eu", detect=False)
    assert outlook.expect(Slots(load), [trigger], minute(4 * DAY + 530), minute(4 * DAY + 600)) == ()


def test_an_outlier_is_cut_down_and_the_last_occurrences_count():
    load = [6000.0] * (12 * DAY)
    with_bursts(load, [day * DAY + 540 for day in range(10)], 10, lambda events: 2 * events)
    with_bursts(load, [7 * DAY + 540], 10, lambda events: 50 * events)
    trigger = Trigger(id="t", cron="0 9 * * *", duration_ns=10 * MINUTE_NS)
    found = expected_of(load, trigger, 10 * DAY + 535)
    assert 200 < max(found.eps) < 500


def test_triggers_of_other_regions_bring_nothing():
    load = [6000.0] * DAY
    trigger = Trigger(id="t", start_ns=minute(600), end_ns=minute(630), region="us", expected_factor=3.0)
    assert Outlook("eu").expect(Slots(load[:590]), [trigger], minute(590), minute(700)) == ()
    assert Outlook("us").expect(Slots(load[:590]), [trigger], minute(590), minute(700))


def test_nothing_after_now_is_used_and_asking_twice_changes_nothing():
    load = with_bursts(load_of(9, 4), [day * DAY + 540 for day in range(4)], 30, lambda events: 4 * events)
    trigger = Trigger(id="t", cron="0 9 * * *", duration_ns=30 * MINUTE_NS)
    now = 2 * DAY + 545
    fresh = Outlook("eu", detect=False)
    whole = fresh.expect(Slots(load), [trigger], minute(now), minute(now + 60))
    assert whole == fresh.expect(Slots(load[:now]), [trigger], minute(now), minute(now + 60))


def test_a_history_as_the_manager_holds_it_is_read_too():
    history = LoadHistory()
    load = with_bursts(load_of(10, 3), [day * DAY + 540 for day in range(3)], 30, lambda events: 4 * events)
    history.extend(LoadSample(minute(number), events) for number, events in enumerate(load[: 2 * DAY + 535]))
    trigger = Trigger(id="t", cron="0 9 * * *", duration_ns=30 * MINUTE_NS)
    (found,) = Outlook("eu").expect(history, [trigger], minute(2 * DAY + 535), minute(2 * DAY + 600))
    assert found.origin == "learned"


ODD = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -1.0, math.nan, 1e300, 60.0, 6000.0, 1e14]),
)
TRIGGERS = st.sampled_from(
    [
        Trigger(id="hourly", cron="*/10 * * * *", duration_ns=9 * MINUTE_NS),
        Trigger(id="daily", cron="0 9 * * *", duration_ns=700 * MINUTE_NS, expected_factor=1000.0),
        Trigger(id="always", cron="*/2 * * * *", duration_ns=2 * MINUTE_NS, expected_extra_eps=1e300),
        Trigger(id="once", start_ns=minute(10), end_ns=minute(100), expected_factor=0.001, also=(Window(0, 1),)),
        Trigger(id="week", cron="0 0 * * 1", duration_ns=7 * DAY * MINUTE_NS, zone="Europe/Berlin"),
    ]
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(ODD, max_size=40),
    st.integers(1, 40),
    st.lists(TRIGGERS, max_size=3, unique_by=lambda each: each.id),
    st.sampled_from([30, 60, 300, 3600]),
    st.integers(-(10**15), 10**15),
)
def test_no_history_makes_it_raise_or_lower_anything(values, times, triggers, slot_s, shift_ns):
    events = values * times
    history = Slots(events, START // (slot_s * 10**9))
    history.slot_s = slot_s
    outlook = Outlook("eu")
    for now_ns in (START + len(events) * slot_s * 10**9 + shift_ns, START + len(events) * slot_s * 10**9):
        for each in outlook.expect(history, triggers, now_ns, now_ns + 3600 * 10**9):
            assert all(value >= 0 for value in each.eps)
        outlook.expect(history, triggers, now_ns, now_ns - 1)


@given(st.lists(st.floats(0, 1e9), max_size=20), st.integers(-5, 40), st.integers(-5, 40))
def test_the_largest_of_a_window_is_one_of_its_slots(eps, start, end):
    one = Expected(trigger="t", title="t", origin="announced", start_ns=START, slot_s=60, eps=tuple(eps), why="so")
    found = largest([one], minute(start), minute(end))
    wanted = max(eps[max(0, start) : max(0, end)], default=0.0) if start < end else 0.0
    assert (found[0] if found else 0.0) == wanted
