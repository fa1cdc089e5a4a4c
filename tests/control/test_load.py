import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.control.load import NS_PER_S, CounterReading, LoadHistory, LoadMeter, LoadSample, RateMeter

MINUTE = 60 * NS_PER_S


def at(minute, events, size=0.0):
    return LoadSample(minute * MINUTE, events, size)


def reading(instance, second, events, *, epoch=1, started=0, size=None):
    return CounterReading(
        instance, epoch, started * NS_PER_S, round(second * NS_PER_S), events, events * 10 if size is None else size
    )


def test_missing_slots_are_nan_and_not_zero():
    history = LoadHistory()
    history.extend([at(10, 5.0), at(13, 7.0)])
    assert history.events[0] == 5.0
    assert math.isnan(history.events[1])
    assert math.isnan(history.events[2])
    assert history.events[3] == 7.0
    assert [sample.time_ns // MINUTE for sample in history.samples()] == [10, 13]
    assert history.end_ns == 14 * MINUTE


def test_a_slot_told_twice_keeps_the_later_word_and_one_too_old_is_ignored():
    history = LoadHistory(maximum_slots=3)
    history.extend([at(1, 1), at(2, 2), at(3, 3), at(4, 4), at(2, 20), at(1, 10)])
    assert history.events == [20, 3, 4]
    assert history.first_slot == 2


def test_a_gap_longer_than_the_history_starts_it_anew():
    history = LoadHistory(maximum_slots=100)
    history.extend([at(1, 1), at(10**9, 2)])
    assert history.events == [2]
    assert history.first_slot == 10**9


def test_coarser_slots_are_aligned_and_scale_up_what_was_partly_measured():
    history = LoadHistory()
    history.extend(at(minute, 10.0, 100.0) for minute in range(3, 21) if minute not in {6, 10, 11, 12})
    coarse = history.coarser(300)
    assert coarse.first_slot == 1  # minutes 5–9, the first whole slot
    assert coarse.events[0] == 50.0  # one of five parts missing
    assert math.isnan(coarse.events[1])  # three of five parts missing
    assert coarse.bytes[2] == 500.0
    assert len(coarse) == 3


def test_recent_peak_ignores_what_was_not_measured():
    history = LoadHistory()
    history.extend([at(1, 600), at(2, 120), at(4, 60)])
    assert history.recent_peak_eps(3) == 2.0
    assert LoadHistory().recent_peak_eps(5) is None


def test_counters_of_all_instances_become_one_slot():
    meter = LoadMeter(0)
    for second, events in ((0, 0), (30, 300), (60, 900), (90, 900)):
        meter.read(reading("a", second, events))
        meter.read(reading("b", second, events))
    (sample,) = meter.close(90 * NS_PER_S)
    assert sample == LoadSample(0, 1800.0, 18000.0)


def test_a_restart_neither_loses_the_new_count_nor_counts_backwards():
    meter = LoadMeter(0)
    meter.read(reading("a", 0, 0))
    meter.read(reading("a", 30, 500))
    meter.read(reading("a", 60, 100, epoch=2, started=40))
    (sample,) = meter.close(60 * NS_PER_S)
    assert sample.events == 600


def test_an_instance_known_before_the_meter_began_brings_no_old_events():
    meter = LoadMeter(1000 * MINUTE)
    meter.read(reading("old", 1000 * 60, 10**9, started=5))
    meter.read(reading("old", 1001 * 60, 10**9 + 60, started=5))
    assert [sample.events for sample in meter.close(1001 * MINUTE)] == [60.0]


def test_an_increase_is_spread_over_the_slots_it_spans():
    meter = LoadMeter(0)
    meter.read(reading("a", 0, 0))
    meter.read(reading("a", 180, 900))
    assert [sample.events for sample in meter.close(3 * MINUTE)] == [300.0] * 3


def test_a_slot_in_which_an_instance_was_silent_is_left_out_until_it_is_forgotten():
    meter = LoadMeter(0)
    for name in ("a", "b"):
        meter.read(reading(name, 0, 0))
    for second in (60, 120, 180, 240):
        meter.read(reading("a", second, second))
    assert meter.close(60 * NS_PER_S) == []  # within the grace
    assert meter.close(130 * NS_PER_S) == []  # after it: slot 0 is given up
    assert meter.silent(240 * NS_PER_S) == ("b",)
    meter.forget("b")
    assert meter.silent(240 * NS_PER_S) == ()
    assert [sample.time_ns // MINUTE for sample in meter.close(240 * NS_PER_S)] == [1, 2, 3]


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 1000), st.booleans()), min_size=1, max_size=40))
def test_no_event_is_counted_twice_or_dropped_however_readings_fall(steps):
    meter = LoadMeter(0, grace_s=0)
    second, total, counter, epoch, started = 0, 0, 0, 1, 0
    meter.read(reading("a", 0, 0))
    found = 0.0
    for gap, events, restarts in steps:
        if restarts:
            epoch, counter, started = epoch + 1, 0, second
        second += gap
        counter += events
        total += events
        meter.read(reading("a", second, counter, epoch=epoch, started=started))
        found += sum(sample.events for sample in meter.close(second * NS_PER_S))
    # What lies in the slot still open is flushed by two minutes of nothing.
    meter.read(reading("a", second + 120, counter, epoch=epoch, started=started))
    found += sum(sample.events for sample in meter.close((second + 120) * NS_PER_S))
    assert found == pytest.approx(total)


def test_one_event_in_a_moment_is_no_rate():
    meter = RateMeter(30)
    meter.read(reading("b1", 100, 0))
    meter.read(reading("b1", 101, 1))
    assert meter.rate() == (1 / 30, 10 / 30)


def test_a_present_rate_is_that_of_the_last_span():
    meter = RateMeter(30)
    for second in range(0, 100, 5):
        meter.read(reading("b1", second, 2 * second if second < 60 else 120 + 10 * (second - 60)))
    assert meter.rate() == (10.0, 100.0)


def test_readings_further_apart_than_the_span_are_taken_as_they_are():
    meter = RateMeter(30)
    for second in (0, 100, 200):
        meter.read(reading("b1", second, second))
    assert meter.rate()[0] == 1.0


def test_a_new_incarnation_begins_a_new_record():
    meter = RateMeter(30)
    meter.read(reading("b1", 0, 1000))
    meter.read(reading("b1", 40, 0, epoch=2))
    assert meter.rate() == (0.0, 0.0)


@given(st.lists(st.tuples(st.floats(0.1, 60), st.integers(0, 100)), max_size=50))
def test_a_present_rate_lies_within_the_rates_between_readings(steps):
    meter, second, events, rates = RateMeter(30), 0.0, 0, [0.0]
    assert meter.rate() == (0.0, 0.0)
    for passed, more in steps:
        second, events = second + passed, events + more
        rates.append(more / passed)
        meter.read(reading("b1", second, events))
        assert 0 <= meter.rate()[0] <= max(rates) * 1.001
