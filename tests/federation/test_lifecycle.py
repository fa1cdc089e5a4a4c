"""Up, Ctrl-C, up again: nothing is left behind but the data, and the data is found again."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.federation.conftest import RunningFederation
from tests.federation.waiting import until

pytestmark = pytest.mark.ray


def run_directories() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("fedbus-*"))


def test_ctrl_c_leaves_nothing_behind_and_the_events_are_found_again(tmp_path: Path) -> None:
    running = RunningFederation(tmp_path)
    before = run_directories()
    running.up()
    (run_directory,) = run_directories() - before
    assert running.process is not None
    started = psutil.Process(running.process.pid).children(recursive=True)
    endpoints = [i["endpoint"] for i in running.items("instances")]
    sent = running.command("publish", "kept.a", "--file", "-", input="1\n2\n3\n")
    assert sent.returncode == 0, sent.stderr

    assert running.down(signal.SIGINT) == 130

    assert not run_directory.exists()
    until(
        lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in started), 10, "all processes end"
    )
    for port in [running.port, *(int(endpoint.rpartition(":")[2]) for endpoint in endpoints)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))  # raises where somebody still listens

    running.up()
    try:
        found = running.command("subscribe", "kept.>", "--from", "earliest", "--json", "--max", "3")
        assert [json.loads(line)["id"] for line in found.stdout.splitlines()] == sent.stdout.split()
    finally:
        assert running.down(signal.SIGTERM) == 0
