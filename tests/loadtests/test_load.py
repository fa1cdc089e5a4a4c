"""The verdict over a locust run."""

import msgspec
import pytest

from fedbus_loadtests.load import Request, Result
from fedbus_loadtests.ports import free_blocks, free_port

ROW = b'[{"name": "single", "num_requests": 4, "num_failures": 0, "response_times": {"5": 2, "9.0": 1, "100": 1},'
ROW += b' "start_time": 10.0, "last_request_timestamp": 12.0, "method": "POST"}]'


def request(**changes) -> Request:
    (row,) = msgspec.json.decode(ROW, type=list[Request], strict=False)
    return msgspec.structs.replace(row, **changes)


def test_locusts_rows_are_read():
    assert request().percentile(0.5) == 5.0
    assert request().percentile(0.99) == 100.0
    assert request().per_s == 2.0
    assert request(response_times={}).percentile(0.5) == 0.0


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (Result([request()], 10, 3, 10, 2), None),
        (Result([request(num_failures=2)], 10, 3, 10, 0), "2 requests failed"),
        (Result([request()], 10, 3, 9, 0), "10 events were accepted, 9 delivered"),
        (Result([request()], 0, 0, 0, 0), "no event was accepted"),
    ],
)
def test_failures_and_losses_are_problems(result, problem):
    assert result.problems == ([] if problem is None else [problem])


def test_free_ports_lie_outside_the_ranges_of_others():
    first = free_blocks(3, 50, 4)
    assert 20_000 < first < 32_000
    assert free_port() > 1024
