"""The picture of a run: rates and latencies by time, faults where they were."""

from __future__ import annotations

import pytest

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.picture import draw, timeline

MS = 1_000_000


def entry(time_ms, kind, operation, **fields):
    return Entry(time_ns=time_ms * MS, process="p", kind=kind, operation=operation, **fields)


@pytest.fixture
def history():
    return [
        entry(1000, "invoke", "publish", id="a"),
        entry(1010, "ok", "publish", id="a"),
        entry(1020, "ok", "deliver", id="a"),
        entry(1100, "info", "fault", fault="kill", target="b1"),
        entry(1200, "invoke", "publish", id="b"),
        entry(1600, "info", "heal", fault="kill"),
        entry(1700, "ok", "publish", id="b"),
    ]


def test_rates_latencies_and_faults_are_told_by_time(history):
    shown = timeline(history)
    assert shown.rate_eps == [4.0, 0.0, 4.0]
    assert shown.delivered_eps == [4.0, 0.0, 0.0]
    assert (shown.worst_ms[0], shown.worst_ms[2]) == (10.0, 500.0)
    assert shown.faults == [(0.1, 0.6, "kill b1")]


def test_it_is_an_svg_with_its_title(history, tmp_path):
    draw(timeline(history), "seed 7", tmp_path / "timeline.svg")
    assert "<svg" in (tmp_path / "timeline.svg").read_text()
