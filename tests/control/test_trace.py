import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.control.load import NS_PER_S
from fedbus.control.trace import read_trace
from fedbus.errors import ConfigurationError


def rows(*lines):
    return ["ds,y\n", *(f"{line}\n" for line in lines)]


def test_step_gaps_and_blank_values_are_understood():
    trace = read_trace(
        rows("2025-01-01T00:00:00Z,1", "2025-01-01T00:05:00Z,", "2025-01-01T00:20:00Z,4", "2025-01-01T00:25:00Z,5.5")
    )
    assert trace.step_s == 300
    assert trace.start_ns == 1735689600 * NS_PER_S
    assert [None if math.isnan(each) else each for each in trace.events] == [1, None, None, None, 4, 5.5]
    assert [sample.events for sample in trace.samples(bytes_per_event=2)] == [1, 4, 5.5]


@pytest.mark.parametrize("time", ["2025-01-01T00:00:00Z", "2025-01-01 00:00", "2025-01-01T02:00:00+02:00"])
def test_times_without_an_offset_are_utc(time):
    assert read_trace(rows(f"{time},1", "2025-01-01T00:01:00Z,2")).start_ns == 1735689600 * NS_PER_S


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ["empty"]),
        (["ds,y\n"], ["0 data rows"]),
        (rows("2025-01-01T00:00:00Z,1"), ["1 data rows"]),
        (["time,value\n"], ["line 1", "ds,y", "time,value"]),
        (rows("2025-01-01T00:00:00Z,1,2"), ["line 2", "two fields"]),
        (rows("yesterday,1"), ["line 2", "yesterday", "ISO"]),
        (rows("2025-01-01T00:00:00Z,1", "2025-01-01T00:01:00Z,many"), ["line 3", "many"]),
        (rows("2025-01-01T00:00:00Z,nan"), ["line 2", "nan"]),
        (rows("2025-01-01T00:00:00Z,-1"), ["line 2", "-1"]),
        (rows("2025-01-01T00:00:00Z,inf"), ["line 2", "inf"]),
        (rows("2025-01-01T00:01:00Z,1", "2025-01-01T00:00:00Z,1"), ["line 3", "back in time"]),
        (rows("2025-01-01T00:01:00Z,1", "2025-01-01T00:01:00Z,1"), ["line 3", "repeats"]),
        (rows(*(f"2025-01-01T00:{m:02d}:00Z,1" for m in range(5)), "2025-01-01T00:05:30Z,1"), ["line 7", "30 s off"]),
        (
            rows(*(f"2025-01-01T00:{m:02d}:00Z,1" for m in range(5)), "9025-01-01T00:05:00Z,1"),
            ["line 7", "is a year wrong"],
        ),
        (rows("2025-01-01T00:00:00.5Z,1"), ["line 2", "fraction"]),
    ],
)
def test_what_cannot_be_read_is_refused_with_line_and_reason(lines, words):
    with pytest.raises(ConfigurationError) as caught:
        read_trace(lines)
    assert all(word in caught.value.detail for word in words), caught.value.detail


@given(st.lists(st.text(max_size=40), max_size=8), st.booleans())
def test_garbage_is_a_clear_error_and_never_another_exception(lines, with_header):
    with contextlib.suppress(ConfigurationError):
        read_trace((["ds,y"] if with_header else []) + lines)


def test_resampling_keeps_the_total():
    trace = read_trace(rows(*(f"2025-01-01T00:{m:02d}:00Z,{m}" for m in range(0, 60, 5))))
    fine, coarse = trace.resampled(60), trace.resampled(1800)
    assert sum(fine.events) == pytest.approx(sum(trace.events))
    assert sum(coarse.events) == sum(trace.events)
    assert fine.end_ns == trace.end_ns == coarse.end_ns
    with pytest.raises(ConfigurationError):
        trace.resampled(7)
