"""``fedbus bench`` as users call it, in rounds as small as can be."""

import json

import pytest
from click.testing import CliRunner

from fedbus_loadtests.bench.command import bench
from fedbus_loadtests.bench.session import BENCHES, RUNS, Results, find


def run(*arguments):
    return CliRunner().invoke(bench, [str(argument) for argument in arguments])


def measured(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, (getattr(result.exception, "detail", result.exception), result.output)
    return json.loads(result.stdout)


def test_publish_side_by_side_with_nats(needs):
    needs("nats")
    found = measured("publish", "--peer", "nats", "--rounds", 2, "--events", 1000)
    assert found["bench"] == "publish"
    assert found["params"]["events"] == 1000
    assert found["ratio"]["nats"] == pytest.approx(
        found["fedbus"]["events_per_s"] / found["peers"]["nats"]["events_per_s"], rel=1e-3
    )
    assert len(found["fedbus"]["rounds"]) == len(found["peers"]["nats"]["rounds"]) == 2
    assert "fsync" in found["fedbus"]["class"]
    assert found["peers"]["nats"]["atomic"]["events_per_s"] > 0
    assert found["fedbus"]["by_batch"][0][0] == 1


def test_latency_has_both_ratios(needs):
    needs("nats")
    found = measured("latency", "--rounds", 1, "--events", 100)
    assert found["ratio"]["nats"] == pytest.approx(
        found["fedbus"]["p50_ms"] / found["peers"]["nats"]["p50_ms"], rel=1e-3
    )
    assert {"ratio_p99", "ratio_delivered", "ratio_delivered_p99"} <= found.keys()


def test_consume_compares_both_ack_classes(needs):
    needs("nats")
    found = measured("consume", "--rounds", 1, "--events", 1000)
    assert set(found["ratio"]) == set(found["ratio_durable"]) == {"nats"}
    assert found["fedbus"]["ack"] == found["peers"]["nats"]["ack"] != found["fedbus"]["durable"]["ack"]


def test_fanout_and_topics(needs):
    needs("nats")
    assert measured("fanout", "--rounds", 1, "--events", 100, "--connections", 4)["ratio"]["nats"] > 0
    assert measured("topics", "--rounds", 1, "--events", 500, "--topics", 50)["ratio"]["nats"] > 0


def test_benches_without_peers():
    assert measured("route", "--rounds", 1)["fedbus"]["p50_us"] > 0
    linked = measured("link", "--rounds", 1, "--events", 500, "--round-s", 0.2)
    assert linked["ratio"]["local"] > 0
    assert linked["fedbus"]["added_p50_ms"] < linked["fedbus"]["delivered_p50_ms"]
    assert measured("tick", "--rounds", 1)["fedbus"]["p50_s"] > 0
    assert measured("memory", "--topics", 100)["fedbus"]["idle_mib"] > 0
    recovered = measured("recovery", "--size-mib", 2, "--rounds", 1)["fedbus"]
    assert recovered["stored_mib"] >= 2


def test_a_table_for_people():
    result = run("route", "--rounds", 1)
    assert result.exit_code == 0
    assert "p50_us" in result.stdout


def test_a_missing_server_is_an_error_that_says_how_to_install_it(monkeypatch, tmp_path):
    from fedbus.errors import EnvironmentUnusableError
    from fedbus_loadtests.bench.peers import redis

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis, "PROGRAMS", ())
    result = run("publish", "--peer", "redis", "--rounds", 1, "--events", 100)
    assert isinstance(result.exception, EnvironmentUnusableError)
    assert "apt-get install redis-server" in result.exception.detail


def test_a_session_writes_a_result_file_and_its_page(tmp_path):
    results, out = tmp_path / "results.json", tmp_path / "benchmarks.md"
    assert run("all", "--only", "route", "--rounds", 1, "--results", results).exit_code == 0
    assert run("all", "--only", "tick", "--rounds", 1, "--results", results).exit_code == 0
    assert set(Results.read(results).runs) == {"route", "tick"}
    assert run("page", "--results", results, "--out", out, "--plots", tmp_path / "plots").exit_code == 0
    assert "one decision over 1,000 instances" in out.read_text()
    assert (tmp_path / "plots" / "bars.svg").exists()


def test_every_run_has_a_bench():
    assert {bench for bench, _ in RUNS.values()} == set(BENCHES)
    for name in BENCHES:
        find(name)
