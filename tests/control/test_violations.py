import math

from hypothesis import given
from hypothesis import strategies as st

from fedbus.control.load import NS_PER_S, LoadSample
from fedbus.control.violations import Service, Violations

MINUTE = 60 * NS_PER_S


def slots(*eps, slot_s=60, first=0):
    return [LoadSample((first + n) * slot_s * NS_PER_S, rate * slot_s, 0.0) for n, rate in enumerate(eps)]


def test_a_minute_whose_load_exceeds_what_served_in_it_is_a_violation():
    services = [Service(0, 100.0, 1e6), Service(2 * MINUTE, 200.0, 1e6)]
    found = Violations().judged(slots(100, 101, 150, 250), 60, services)
    assert (found.minutes, found.violated, found.new_minutes, found.new_violated) == (4, 2, 4, 2)
    assert found.share == 0.5


def test_what_came_into_service_within_the_minute_counts_for_its_part():
    services = [Service(0, 100.0, 1e6), Service(MINUTE // 2, 200.0, 1e6)]
    assert Violations().judged(slots(149), 60, services).violated == 0
    assert Violations().judged(slots(151), 60, services).violated == 1


def test_bytes_alone_can_be_too_much():
    sample = LoadSample(0, 60.0, 60 * 2e6)
    assert Violations().judged([sample], 60, [Service(0, 100.0, 1e6)]).violated == 1


def test_nothing_is_counted_twice_nor_before_anything_was_known_to_serve():
    services = [Service(MINUTE, 100.0, 1e6)]
    first = Violations().judged(slots(500, 500, 50), 60, services)
    assert (first.minutes, first.violated) == (2, 1)
    again = first.judged(slots(500, 500, 50, 500), 60, services)
    assert (again.minutes, again.violated, again.new_minutes, again.new_violated) == (3, 2, 1, 1)


def test_short_slots_make_a_minute_and_long_ones_are_several():
    services = [Service(0, 100.0, 1e6)]
    short = Violations().judged(slots(50, 300, 50, 60, 50, 50, 900, slot_s=10), 10, services)
    assert (short.minutes, short.violated) == (1, 0)
    assert short.until_ns == MINUTE
    long = Violations().judged(slots(101, slot_s=300), 300, services)
    assert (long.minutes, long.violated) == (5, 5)


def test_minutes_that_no_forecast_could_have_saved_are_counted_but_teach_nothing():
    services = [Service(0, 100.0, 1e6), Service(MINUTE + MINUTE // 2, 100.0, 1e6, telling=False)]
    found = Violations().judged(slots(150, 150, 150), 60, services)
    assert (found.minutes, found.violated, found.new_minutes, found.new_violated) == (3, 3, 1, 1)


RATES = st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf])


@given(st.lists(RATES, max_size=20), st.lists(st.integers(0, 1200), max_size=5), st.sampled_from([10, 60, 300]))
def test_whatever_was_measured_nothing_raises_and_violations_are_minutes(rates, times, slot_s):
    services = [Service(at * NS_PER_S, 100.0, 1e6) for at in sorted(times)]
    found = Violations().judged(slots(*rates, slot_s=slot_s), slot_s, services)
    assert 0 <= found.violated <= found.minutes
    assert found.new_minutes == found.minutes
