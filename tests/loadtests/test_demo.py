"""``fedbus demo`` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedbus_loadtests.ports import free_blocks, free_port

FEDBUS = [sys.executable, "-c", "from fedbus.cli.main import main; main()", "demo"]
LIMIT_S = 420


def run(*arguments: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(temporary), "TMPDIR": str(temporary)}
    return subprocess.run(
        [*FEDBUS, *arguments], capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment
    )


@pytest.mark.ray
def test_the_whole_story_happens_and_nothing_is_left_behind(tmp_path):
    ports = ["--port", str(free_port()), "--instance-port", str(free_blocks(3, 50, 4))]
    done = run("--seconds", "40", "--json", *ports, temporary=tmp_path)
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout)
    assert summary["problems"] == [], done.stderr
    assert done.returncode == 0
    assert summary["lost"] == 0
    assert summary["acknowledged"] > 1000
    assert summary["delivered"] >= summary["acknowledged"]
    assert summary["scaled_ahead"]["cause"] == "forecast"
    assert summary["scaled_ahead"]["before_peak_s"] > 0
    assert summary["failover"]["back_s"] is not None
    assert summary["directives"]["scale_in"] >= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("time,load\n", "header 'ds,y'"),
        ("ds,y\n2025-01-01T00:00:00Z,1\n2025-01-01T01:00:00Z,2\n", "14 days of history and 4 hours"),
        ("ds,y\n2025-01-01T00:00:00Z,viel\n", "line 2: 'viel' is no number"),
    ],
)
def test_a_trace_that_cannot_be_used_is_a_clear_error_before_anything_starts(content, said, tmp_path):
    trace = tmp_path / "trace.csv"
    if content is not None:
        trace.write_text(content)
    done = run("--trace", str(trace), temporary=tmp_path)
    assert done.returncode == 1
    assert str(trace) in done.stderr
    assert said in done.stderr


def test_a_directory_with_something_in_it_is_not_touched(tmp_path):
    (tmp_path / "mine").write_text("mine")
    done = run("--data", str(tmp_path), temporary=tmp_path)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
