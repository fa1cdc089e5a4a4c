"""The page and its plots come from a stored result file alone."""

from pathlib import Path

import pytest

from fedbus_loadtests.bench.page import page
from fedbus_loadtests.bench.plots import draw
from fedbus_loadtests.bench.session import Results

STORED = Path(__file__).with_name("results.json")


@pytest.fixture(scope="module")
def results():
    return Results.read(STORED)


def test_it_names_every_bar_and_whether_it_is_met(results):
    text = page(results, [])
    assert (
        "| `publish` | one producer against JetStream as it comes (no fsync); ours synced | ≥ 10 | 12 | met |" in text
    )
    assert "| ≤ 1 | 1.5 | **missed** |" in text
    assert "| not measured |" in text


def test_a_verdict_from_a_busy_machine_says_so(results):
    busy = results.runs["publish"] | {"load_average": 2.5}
    text = page(Results(results.made_at, results.machine, {"publish": busy}), [])
    assert "| 12 | met, but the machine was busy with other work: measure again |" in text


def test_what_is_missed_comes_with_what_stops_it(results):
    text = page(results, [])
    section = text[text.index("### What stops what is missed") : text.index("## Figures")]
    assert "**latency: p50 publish → acknowledged at 1,000/s, both synced** (1.5, wanted ≤ 1)" in section
    assert "publish:" not in section


def test_every_row_says_its_durability_class_quorum_and_tuning(results):
    row = next(line for line in page(results, []).splitlines() if line.startswith("| nats |"))
    assert "page cache" in row
    assert "1 of 1" in row
    assert "window 4000" in row


def test_it_says_where_it_ran_how_loaded_and_how_to_repeat(results):
    text = page(results, ["bars.svg", "rates.svg"])
    assert "2 cores of a processor" in text
    assert "load average" in text
    assert "make bench" in text
    assert "![Events per second, medians; dots are rounds](benchmarks/rates.svg)" in text


def test_runs_that_failed_are_not_hidden(results):
    assert "- `http`: no Ray" in page(results, [])


def test_the_same_results_draw_the_same_plots(results, tmp_path):
    names = draw(results.runs, tmp_path / "a")
    assert names == ["bars.svg", "rates.svg", "latency.svg", "batches.svg"]
    assert draw(results.runs, tmp_path / "b") == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_without_results_there_are_no_plots(tmp_path):
    assert draw({}, tmp_path) == []
