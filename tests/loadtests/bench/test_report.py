"""Figures are medians over rounds, ratios are ours over theirs, bars say what is met."""

import pytest

from fedbus_loadtests.bench.bars import BARS, Bar
from fedbus_loadtests.bench.report import Report, figures, quantile, ratios
from fedbus_loadtests.bench.system import About, Load, Sample, random_payloads

ABOUT = About("1.2", "fsync", "1 of 1", {"window": 5})


def test_rates_are_medians_of_rounds():
    found = figures([Sample(100, 1.0), Sample(100, 0.1), Sample(100, 0.5)], ABOUT)
    assert found["events_per_s"] == 200
    assert found["rounds"] == [100, 1000, 200]
    assert {name: found[name] for name in ("class", "quorum", "tuning", "version")} == {
        "class": "fsync", "quorum": "1 of 1", "tuning": {"window": 5}, "version": "1.2",
    }  # fmt: skip


def test_latencies_are_medians_of_each_rounds_quantile():
    rounds = [Sample(100, 1.0, [float(n + add) for n in range(100)], []) for add in (0, 10, 1000)]
    found = figures(rounds, ABOUT)
    assert (found["p50_ms"], found["p99_ms"]) == (60, 109)
    assert found["cdf"][0] == [0.0, 0]
    assert found["cdf"][-1] == [1.0, 1099]
    assert "delivered_p50_ms" not in found


def test_a_quantile_is_one_of_the_values():
    assert quantile([1, 2, 3, 4], 0.5) == 3
    assert quantile([1, 2, 3, 4], 1.0) == 4


def test_ratios_are_ours_over_theirs_and_only_of_what_was_measured():
    peers = {"nats": {"events_per_s": 50.0}, "redis": {"events_per_s": 400.0}, "other": {}}
    assert ratios({"events_per_s": 200.0}, peers, "events_per_s") == {"nats": 4.0, "redis": 0.5}


def test_the_json_is_the_contracts():
    report = Report(bench="publish", params={}, fedbus={"events_per_s": 1}, ratio={"nats": 2}, more={"ratio_p99": {}})
    assert list(report.to_dict()) == ["bench", "params", "fedbus", "peers", "ratio", "ratio_p99"]


@pytest.mark.parametrize(
    ("bar", "value", "met"),
    [
        (Bar("r", "ratio.nats", 10, ""), 10.0, True),
        (Bar("r", "ratio.nats", 10, ""), 9.9, False),
        (Bar("r", "fedbus.p50_ms", 1, "", at_least=False), 1.0, True),
        (Bar("r", "fedbus.p50_ms", 1, "", at_least=False), 1.1, False),
    ],
)
def test_bars_are_met_from_their_target_on(bar, value, met):
    assert bar.met(value) is met


def test_a_bar_finds_its_figure_or_says_that_it_was_not_measured():
    bar = Bar("publish", "ratio.nats", 10, "")
    assert bar.measured({"publish": {"ratio": {"nats": 12}}}) == 12
    assert bar.measured({"publish": {"ratio": {}}}) is None
    assert bar.measured({}) is None
    assert len({(each.run, each.figure) for each in BARS}) == len(BARS)


def test_a_load_spreads_events_over_its_topics():
    pairs = list(Load(500, random_payloads(16, 20), ["a", "b", "c"]).pairs())
    assert len(pairs) == 500
    assert {topic for topic, _ in pairs} == {"a", "b", "c"}
    assert len(set(random_payloads(16, 100))) == 100
