"""The environment of a cluster's head: Ray still knows every setting, and all files are below the run directory."""

import importlib.util
from pathlib import Path

from fedbus_actors.run_directory import head_environment

LONGEST_SOCKET = 97  # HAProxy's
LEAST_START_S = 30.0  # a proxy of Serve on a machine that is busy


def ray_folder() -> Path:
    """Found without importing it: then it would read the environment."""
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def test_serve_reads_every_setting_that_is_made_for_it(tmp_path):
    constants = (ray_folder() / "serve/_private/constants.py").read_text()
    settings = [name for name in head_environment(tmp_path) if name.startswith("RAY_SERVE_")]
    assert settings
    assert [name for name in settings if name not in constants] == []


def test_workers_run_at_the_priority_of_everything_else(tmp_path):
    assert head_environment(tmp_path)["RAY_worker_niceness"] == "0"
    assert b"worker_niceness" in (ray_folder() / "_raylet.so").read_bytes(), "Ray knows that setting no more"


def test_proxies_get_time_to_start_on_a_busy_machine(tmp_path):
    environment = head_environment(tmp_path)
    for name in ("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S"):
        assert float(environment[name]) >= LEAST_START_S


def test_files_are_below_the_run_directory_and_tokens_and_ports_its_own(tmp_path):
    first, second = (head_environment(Path(folder)) for folder in (_made(tmp_path, "a"), _made(tmp_path, "b")))
    paths = [value for value in first.values() if value.startswith("/")]
    assert paths
    assert all(path.startswith(f"{tmp_path}/a/") for path in paths)
    deepest = max(len(path) - len(f"{tmp_path}/a") for path in paths)
    assert deepest + len("/tmp/fedbus-12345678") <= LONGEST_SOCKET
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]


def _made(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder
