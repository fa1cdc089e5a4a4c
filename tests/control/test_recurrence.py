from datetime import UTC, datetime
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.control.recurrence import parse_cron
from fedbus.errors import ConfigurationError


def at(text):
    return round(datetime.fromisoformat(text).timestamp()) * 10**9


def told(times, zone=UTC):
    return [datetime.fromtimestamp(each // 10**9, zone).strftime("%a %Y-%m-%d %H:%M") for each in times]


@pytest.mark.parametrize(
    ("cron", "times"),
    [
        ("0 9 * * 1", ["Mon 2025-10-13 09:00", "Mon 2025-10-20 09:00"]),
        ("*/30 8-9 * * mon-fri", ["Thu 2025-10-09 08:00", "Thu 2025-10-09 08:30"]),
        ("5/20 * * * *", ["Thu 2025-10-09 00:05", "Thu 2025-10-09 00:25"]),
        ("0 0 1 * 0", ["Sun 2025-10-12 00:00", "Sun 2025-10-19 00:00"]),  # either day suffices
        ("0 0 29 feb *", ["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00"]),
        ("0 12 31 4,12 *", ["Wed 2025-12-31 12:00", "Thu 2026-12-31 12:00"]),
        ("@weekly", ["Sun 2025-10-12 00:00", "Sun 2025-10-19 00:00"]),
        ("0 1 * * 7", ["Sun 2025-10-12 01:00", "Sun 2025-10-19 01:00"]),
    ],
)
def test_cron_expressions_mean_what_crontab_says(cron, times):
    assert told(islice(parse_cron(cron).from_ns(at("2025-10-09T00:00:00Z")), 2)) == times


def test_local_times_follow_their_zone_through_both_changes_of_the_clock():
    berlin = parse_cron("30 2 * * *", "Europe/Berlin")
    spring = told(islice(berlin.from_ns(at("2026-03-28T00:00:00Z")), 3), berlin.zone)
    assert spring == ["Sat 2026-03-28 02:30", "Sun 2026-03-29 03:30", "Mon 2026-03-30 02:30"]
    autumn = told(islice(berlin.from_ns(at("2026-10-24T00:00:00Z")), 3), berlin.zone)
    assert autumn == ["Sat 2026-10-24 02:30", "Sun 2026-10-25 02:30", "Mon 2026-10-26 02:30"]


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("0 25 * * *", "field 2, the hour, is '25': 25 is not within 0 and 23"),
        ("0 9 * * fry", "field 5, the day of the week (0 and 7 are Sunday), is 'fry': 'fry' is not a value"),
        ("*/0 * * * *", "field 1, the minute, is '*/0': a step of 0 never comes to the next value"),
        ("0 9-5 * * *", "the range 9-5 runs backwards"),
        ("0 9, * * *", "a value is missing"),
        ("0 9 * *", "has 4 fields: write the five fields minute, hour, day of the month"),
        ("", "has 0 fields"),
        ("0 0 30 2 *", "never happens: no month of field 4 (2) has a day of field 3 (30)"),
        ("٣ * * * *", "is not a value"),
        ("0 " * 200, "fields"),
    ],
)
def test_a_bad_expression_is_refused_with_what_where_and_what_to_do(cron, said):
    with pytest.raises(ConfigurationError) as refused:
        parse_cron(cron)
    assert said in refused.value.detail
    assert "write" in refused.value.detail


FIELDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
EXPRESSIONS = st.tuples(
    *(st.one_of(st.just("*"), st.integers(*bounds).map(str), st.integers(1, 9).map("*/{}".format)) for bounds in FIELDS)
).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS, st.integers(0, 4 * 10**18))
def test_times_forward_and_backward_are_the_same_times(cron, now_ns):
    try:
        recurrence = parse_cron(cron)
    except ConfigurationError as error:
        assert "never happens" in error.detail  # noqa: PT017 - an impossible date is the only thing wrong here
        return
    coming = list(islice(recurrence.from_ns(now_ns), 5))
    assert coming == sorted(coming)
    assert all(each >= now_ns for each in coming)
    assert list(islice(recurrence.before_ns(coming[-1] + 1), len(coming)))[::-1] == coming


@given(st.text(max_size=40))
def test_any_text_is_understood_or_refused(text):
    try:
        assert parse_cron(text).minutes
    except ConfigurationError as error:
        assert error.detail  # noqa: PT017 - either outcome is right
