"""The verdict: exit status 1 unless nothing was lost and the whole story happened."""

import json

import msgspec
import pytest
from rich.console import Console

from fedbus_loadtests.demo.accuracy import Accuracy
from fedbus_loadtests.demo.audit import GroupCount, Percentiles
from fedbus_loadtests.demo.summary import Failover, ScaleOut, Summary

LATENCY = Percentiles(1.0, 2.0, 3.0)
FAILOVER = Failover("r", "r/b1", 1, 10.0, 900.0, 2.5)
GOOD = Summary(
    load="a load", speed=240.0, scale=1.0, capacity_eps=1.0, published=10, acknowledged=10, unknown=0,
    groups={"g": GroupCount(10, 10, 1)}, delivered=10, lost=0, duplicates=1, publish=LATENCY, delivery=LATENCY,
    forecast=Accuracy(5, 10.0, 0.5, 95.0, ("arima",)), first_scale_out=ScaleOut("r", "forecast", "because", 30.0),
    scaled_ahead=ScaleOut("r", "forecast", "because", 30.0), scaled_in="r: because", directives={"forecast": 1},
    failover=FAILOVER, start_s={"Ray": 4.0}, flowing_after_s=20.0, replay_s=75.0,
)  # fmt: skip


def test_the_whole_story_without_loss_is_a_success():
    assert GOOD.problems == []
    said = json.loads(GOOD.as_json())
    assert said["ok"]
    assert said["problems"] == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"groups": {"g": GroupCount(10, 9, 0)}}, "1 acknowledged events did not reach g"),
        ({"acknowledged": 0}, "no event was acknowledged"),
        ({"scaled_ahead": None}, "no scale-out ordered by the forecast"),
        ({"first_scale_out": ScaleOut("r", "reactive", "because", None)}, "was ordered by reactive"),
        ({"failover": None}, "no instance was killed"),
        ({"failover": msgspec.structs.replace(FAILOVER, back_s=None)}, "r/b1 did not come back"),
        ({"failover": msgspec.structs.replace(FAILOVER, next_ack_ms=None)}, "nothing was acknowledged in r"),
        ({"scaled_in": None}, "no scale-in"),
    ],
)
def test_whatever_is_missing_is_a_failure_that_says_so(change, problem):
    summary = msgspec.structs.replace(GOOD, **change)
    assert len(summary.problems) == 1
    assert problem in summary.problems[0]
    assert not json.loads(summary.as_json())["ok"]


@pytest.mark.parametrize(
    "summary",
    [GOOD, msgspec.structs.replace(GOOD, publish=None, delivery=None, forecast=None, failover=None, scaled_ahead=None,
                                   scaled_in=None, first_scale_out=None, directives={}, flowing_after_s=None)],
)  # fmt: skip
def test_the_table_can_always_be_printed(summary):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(summary.as_table())
    assert "lost" in capture.get()
