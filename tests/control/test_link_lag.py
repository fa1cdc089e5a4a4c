"""How far behind a region is: in events, in time, and how much its loss could cost."""

from __future__ import annotations

import msgspec

from fedbus.control.link_lag import LagMeter, recovery_point_ms
from fedbus.control.summary import LedgerSummary, LinkLag, RegionSummary

SECOND = 1_000_000_000
LEDGER = "a.x/b1/0"


def summary(end: int, at_ns: int, lags: dict[str, LinkLag] | None = None) -> RegionSummary:
    ledgers = [LedgerSummary(LEDGER, end, "tcp://a:1", open=True)]
    return RegionSummary("a.x", 1, at_ns, 0.0, 0.0, 0.0, 0.0, 0.0, [], ledgers, lags=lags or {})


def measured(
    meter: LagMeter, end: int, reached: int, now_s: float, topics: dict[str, int], *, at_s: float = -1.0
) -> LinkLag:
    said = int((now_s if at_s < 0 else at_s) * SECOND) + 1
    return meter.measure([summary(end, said)], {LEDGER: reached}, [{"a.x": topics}], int(now_s * SECOND))["a.x"]


def test_a_link_that_keeps_up_is_as_late_as_what_came_last():
    meter = LagMeter()
    for at in range(1, 20):
        lag = measured(meter, end=at * 500, reached=at * 500 - 100, now_s=at * 0.5, topics={"t.fast": 2, "t.slow": 9})
    assert lag == LinkLag(100, 9, {"t.fast": 2, "t.slow": 9})


def test_a_link_that_is_stuck_is_late_since_the_oldest_event_it_lacks_was_known():
    meter = LagMeter()
    measured(meter, end=10, reached=10, now_s=1, topics={})
    for at in range(2, 12):
        lag = measured(meter, end=10 * at, reached=10, now_s=at, topics={})
    assert lag == LinkLag(100, 9000, {})
    lag = measured(meter, end=110, reached=60, now_s=12, topics={})
    assert lag == LinkLag(50, 5000, {}), "the end 70 was heard at 7 s"


def test_an_origin_that_is_not_heard_may_have_had_events_since():
    meter = LagMeter()
    measured(meter, end=10, reached=10, now_s=1, topics={})
    lag = measured(meter, end=10, reached=10, now_s=31, topics={}, at_s=1)
    assert lag == LinkLag(0, 30_000, {})


def test_the_memory_of_a_cut_is_bounded():
    meter = LagMeter()
    for at in range(5000):
        lag = measured(meter, end=at + 1, reached=0, now_s=at, topics={})
    assert (lag.events, lag.lag_ms) == (5000, 4_999_000)
    assert len(meter._ends[LEDGER]) <= 1024


def test_the_recovery_point_is_the_worst_lag_of_those_who_pull():
    near = summary(0, 0, {"here": LinkLag(5, 20)})
    far = msgspec.structs.replace(near, region="b.y", lags={"here": LinkLag(50, 700), "else": LinkLag(1, 9000)})
    idle = msgspec.structs.replace(near, region="c.z", lags={})
    assert recovery_point_ms("here", [near, far, idle]) == 700
    assert recovery_point_ms("here", [idle]) is None
