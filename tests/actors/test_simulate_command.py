import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from fedbus.control.trace import Trace
from fedbus_actors.cli.simulate import POLICIES, simulate
from fedbus_actors.cli.simulate_bars import simulate_bars
from tests.control.simulation.traces import daily

CHEAP = ("--policy", "reactive", "--policy", "static", "--policy", "oracle_delayed")


def written(file, trace: Trace):
    start = datetime.fromtimestamp(trace.start_ns / 1e9, UTC)
    rows = [f"{(start + timedelta(seconds=n * trace.step_s)).isoformat()},{y}" for n, y in enumerate(trace.events)]
    file.write_text("\n".join(["ds,y", *rows]) + "\n")
    return file


@pytest.fixture
def csv(tmp_path):
    return written(tmp_path / "made.csv", daily(1.2, seed=1, step_s=300))


def invoked(command, *args):
    return CliRunner().invoke(command, [str(arg) for arg in args])


def test_json_is_one_object_on_stdout(csv):
    result = invoked(simulate, csv, *CHEAP, "--json", "--delay", 2, "--capacity", 3, "--budget", 1)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["delay_min"] == 2
    assert document["instance_eps"] == pytest.approx(3)
    assert set(document["policies"]) == {"reactive", "static", "oracle_delayed"}


def test_a_table_names_every_policy_and_what_it_costs(csv):
    result = invoked(simulate, csv, *CHEAP, "--price", 0.5)
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in ("reactive", "static", "oracle_delayed", "costs"))


def test_a_report_has_a_page_figures_and_plots_that_are_the_same_again(csv, tmp_path):
    for name in ("one", "two"):
        result = invoked(simulate, csv, *CHEAP, "--report", tmp_path / name)
        assert result.exit_code == 0, result.output
    names = sorted(each.name for each in (tmp_path / "one").iterdir())
    assert {"report.md", "simulation.json", "frontier.svg", "load_reactive.svg", "worst_day_static.svg"} <= set(names)
    assert "| reactive |" in (tmp_path / "one" / "report.md").read_text()
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("time,value\n1,2\n", "starts with the header"),
        ("ds,y\n2025-01-01T00:00:00Z,many\n2025-01-01T00:01:00Z,2\n", "line 2"),
        ("ds,y\n2025-01-01T00:00:00Z,1\n", "at least two"),
        ("ds,y\n2025-01-01T00:00:00Z,1\n2025-01-01T00:01:00Z,2\n", "covers 2 minutes"),
    ],
)
def test_a_bad_file_is_one_clear_error_with_its_name(tmp_path, text, words):
    file = tmp_path / "bad.csv"
    file.write_text(text)
    result = invoked(simulate, file, *CHEAP)
    assert result.exit_code != 0
    assert words in result.exception.detail
    assert "bad.csv" in result.exception.detail


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "bad.csv"
    file.write_bytes(b"ds,y\n\xff\xfe\x00\n")
    assert "UTF-8" in invoked(simulate, file).exception.detail


@pytest.mark.parametrize(
    "args",
    [
        ("--policy", "magic"), ("--size", "small"), ("--size", "small=-3"), ("--size", "s=3", "--capacity", "3"),
        ("--delay", "-1"), ("--budget", "0"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_as_such(csv, args):
    assert invoked(simulate, csv, *args).exit_code == 2


def test_the_names_of_policies_are_the_simulations():
    from fedbus.control.simulation import policy

    assert policy.POLICIES == POLICIES


def test_bars_are_printed_for_every_series_of_a_directory_and_the_rest_is_left_alone(tmp_path):
    written(tmp_path / "made.csv", daily(0.8, seed=2, step_s=300))
    (tmp_path / "other.csv").write_text("file,ds,kind\n")
    written(tmp_path / "short.csv", daily(0.1, seed=3, step_s=300))
    result = invoked(simulate_bars, tmp_path, "--delay", 5)
    assert result.exit_code == 0, result.output
    assert "made, 5 min delay" in result.output
    assert "all series, 5 min delay" in result.output
    assert "left out" in result.output
    assert "bars met" in result.output


def test_without_series_it_says_what_to_do(tmp_path):
    result = invoked(simulate_bars, tmp_path / "none")
    assert result.exit_code == 2
    assert "make sim TRACES=" in result.output
