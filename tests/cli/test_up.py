"""``fedbus up``, ``down`` and ``doctor``: what is refused before anything starts, and one federation up and down."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fedbus.storage.data_directory import DataDirectory
from fedbus_actors import run_directory
from fedbus_actors.run_directory import RunDirectory
from tests.federation.conftest import RunningFederation

FEDBUS = str(Path(sys.executable).parent / "fedbus")


@pytest.fixture
def up(tmp_path):
    """Runs ``fedbus`` in a process of its own, in an environment without options."""

    def up(*arguments, **environment):
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FEDBUS_")} | environment
        return subprocess.run(
            [FEDBUS, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environ, check=False
        )

    return up


@pytest.fixture
def held(tmp_path):
    """A federation's data directory that a process of this test holds."""
    directory = DataDirectory(tmp_path, "local")
    directory.region("onprem.berlin")
    code = (
        "import sys; from pathlib import Path; from fedbus.storage.data_directory import DataDirectory\n"
        "DataDirectory(Path(sys.argv[1]), 'local').region('onprem.berlin').lock().acquire()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield directory.path, process
        process.kill()


def leftovers():
    return list(run_directory.parent().glob(f"{run_directory.PREFIX}*/{run_directory.OWNER_FILE}"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [", ":1:8: not valid YAML"),
        ("nane: x", "did you mean name?"),
        ("name: Not A Name", "is no federation name"),
        ("regions: {a.b: {replicas: 9}}", "replicas"),
        ("- 1", "is a mapping"),
    ],
)
@pytest.mark.parametrize("how", [[], ["--detach"]])
def test_a_bad_federation_file_is_one_error_and_nothing_starts(up, tmp_path, text, complaint, how):
    file = tmp_path / "federation.yaml"
    file.write_text(text)
    result = up("up", "-c", file, "--data", tmp_path / "data", *how)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {file}")
    assert complaint in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_missing_file_is_named(up, tmp_path):
    result = up("up", "-c", tmp_path / "none.yaml")
    assert (result.returncode, "there is no such file" in result.stderr) == (1, True)


def test_a_wrong_variable_is_named(up):
    result = up("up", FEDBUS_GATEWAY__PROT="1")
    assert (result.returncode, "FEDBUS_GATEWAY__PROT" in result.stderr) == (1, True)


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--port", "x"], ["--nonsense"], ["argument"]])
def test_wrong_usage_is_status_2(up, arguments):
    assert up("up", *arguments).returncode == 2


@pytest.mark.parametrize("how", [[], ["--detach"]])
def test_a_port_in_use_is_named_with_what_to_do(up, tmp_path, how):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = up("up", "--data", tmp_path, "--port", port, *how)
    assert result.returncode == 1
    assert f"port {port} on 127.0.0.1, for the gateway, cannot be used" in result.stderr
    assert "FEDBUS_GATEWAY__PORT" in result.stderr
    assert run_directory.stale(run_directory.parent()) == []
    assert up("down", "--data", tmp_path).stdout == "local does not run\n"


@pytest.mark.parametrize("how", [[], ["--detach"]])
def test_a_data_directory_in_use_is_refused(up, held, how):
    directory, process = held
    result = up("up", "--data", directory.parent, *how)
    assert result.returncode == 1
    assert f"{directory}/onprem.berlin: in use by process {process.pid}" in result.stderr
    assert not (directory / "up.log").exists()


@pytest.mark.parametrize("how", [[], ["--detach"]])
def test_a_data_directory_that_cannot_be_made_is_refused(up, tmp_path, how):
    (tmp_path / "file").write_text("")
    result = up("up", "--data", tmp_path / "file", *how)
    assert result.returncode == 1
    assert "choose another" in result.stderr


@pytest.mark.parametrize(
    ("region", "complaint"),
    [
        ("no.such", "no region 'no.such' in local: it has aa, bb, cc"),
        ("bb", "region bb runs elsewhere"),
        (None, "are on several clusters (10.0.0.1:6379, local): start those of one cluster at a time"),
    ],
)
@pytest.mark.parametrize("command", ["up", "doctor"])
def test_regions_that_cannot_be_started_here_are_refused(up, tmp_path, command, region, complaint):
    file = tmp_path / "federation.yaml"
    elsewhere = f"{{cluster: elsewhere, peering: 'tcp://b:24499', public_key: '{'k' * 40}'}}"
    file.write_text(f"regions: {{aa: {{}}, bb: {elsewhere}, cc: {{cluster: '10.0.0.1:6379'}}}}")
    which = ["--region", region] if region is not None else []
    result = up(command, "-c", file, "--data", tmp_path / "data", *which)
    assert (result.returncode, complaint in result.stderr) == (1, True), result.stderr


def test_a_region_can_be_started_while_another_runs_and_is_refused_only_if_it_runs_itself(up, held):
    directory, process = held
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = up("up", "--data", directory.parent, "--region", "aws.us-east-1", "--port", port)
    assert f"port {port} on 127.0.0.1, for the gateway" in other.stderr
    same = up("up", "--data", directory.parent, "--region", "onprem.berlin", "--port", port)
    assert f"in use by process {process.pid}" in same.stderr


def test_down_of_one_region_leaves_others(up, held):
    directory, process = held
    DataDirectory(directory.parent, "local").region("aws.us-east-1")
    result = up("down", "--data", directory.parent, "--region", "aws.us-east-1")
    assert (result.returncode, result.stdout, process.poll()) == (0, "aws.us-east-1 does not run\n", None)
    assert up("down", "--data", directory.parent, "--region", "no.such").returncode == 1
    result = up("down", "--data", directory.parent, "--region", "onprem.berlin")
    assert (result.stdout, process.wait(10)) == ("onprem.berlin is down\n", -15)


def test_down_ends_the_process_that_holds_the_data_directory(up, held):
    directory, process = held
    result = up("down", "--data", directory.parent)
    assert (result.returncode, result.stdout) == (0, "local is down\n"), result.stderr
    assert process.wait(10) != 0


def test_down_of_a_name_that_never_was_lists_those_there_are(up, tmp_path, held):
    result = up("down", "nothing", "--data", tmp_path)
    assert result.returncode == 1
    assert "no federation nothing here" in result.stderr
    assert "local" in result.stderr


def test_doctor_finds_what_keeps_a_federation_from_working(up, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = up("doctor", "--data", tmp_path, "--json", FEDBUS_GATEWAY__PORT=str(port))
    found = {each["what"]: each for each in json.loads(result.stdout)}
    assert result.returncode == 1
    assert found[f"port {port}"]["verdict"] == "fail"
    assert "gateway.port" in found[f"port {port}"]["remedy"]
    assert {"Python", "ray", "extra cluster", "HAProxy", "fsync", "leftovers"} <= set(found)
    assert found["HAProxy"]["verdict"] == "ok"


def test_doctor_recognises_the_federation_that_runs(up, held):
    directory, process = held
    result = up("doctor", "--data", directory.parent, "--json")
    found = {each["what"]: each for each in reversed(json.loads(result.stdout))}
    assert found["ports"]["found"] == f"onprem.berlin runs already, as process {process.pid}"


def test_a_killed_runs_directory_and_processes_are_cleared_away(tmp_path):
    directory = tmp_path / f"{run_directory.PREFIX}x"
    directory.mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (directory / run_directory.OWNER_FILE).write_text(str(ended.pid))
    arguments = [sys.executable, "-c", "import sys; sys.stdin.read()", f"{directory}/socket"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE) as orphan:
        assert run_directory.sweep(tmp_path) == [directory]
        assert orphan.poll() is not None
    assert not directory.exists()


def test_a_run_directory_whose_owner_lives_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "parent", lambda: tmp_path)
    mine = RunDirectory()
    assert run_directory.sweep(tmp_path) == []
    mine.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_a_federation_runs_in_the_background_and_is_gone_after_down(up, tmp_path):
    running = RunningFederation(tmp_path)  # for its file, on free ports
    started = up("up", "--detach", "-c", running.file)
    try:
        assert started.returncode == 0, started.stderr
        assert running.url in started.stdout
        assert "ready after" in started.stderr
        owner = re.search(r"as process (\d+)", started.stderr)[1]
        lines = "".join(f'{{"n": {n}}}\n' for n in range(500))
        (tmp_path / "events").write_text(lines)
        published = up("--url", running.url, "publish", "cli.a", "--file", tmp_path / "events")
        assert published.returncode == 0, published.stderr
        received = up("--url", running.url, "subscribe", "cli.>", "--group", "g", "--json", "--max", 500)
        ids = {json.loads(line)["id"] for line in received.stdout.splitlines()}
        assert ids == set(published.stdout.split())
        pages = json.loads(up("--url", running.url, "status", "--json").stdout)
        pids = [instance["pid"] for instance in pages["instances"]["items"]]
        assert [each["state"] for each in pages["regions"]["items"]] == ["healthy"] * 3
        instance = pages["instances"]["items"][0]["instance"]
        restarted = up("--url", running.url, "restart", instance)
        assert restarted.returncode == 0, restarted.stderr
        assert up("up", "--detach", "-c", running.file).returncode == 1
        assert up("--url", running.url, "status").returncode == 0
    finally:
        down = up("down", "-c", running.file)
    assert (down.returncode, down.stdout) == (0, "test is down\n"), down.stderr
    log = (tmp_path / "data" / "test" / "up.log").read_text()
    assert "ServeController" not in log
    assert log.endswith("stopped\n")
    assert owner not in [file.read_text() for file in leftovers()]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with socket.create_server(("127.0.0.1", running.port)):
        pass  # the port is free again
