"""A real federation for the tests of this folder: ``fedbus up`` in a process of its own, three regions, one cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.federation.waiting import until

REGIONS = ("aws.us-east-1", "gcp.europe-west1", "onprem.berlin")


def free_range(count: int) -> int:
    """The first port of a free stretch outside Ray's and the ephemeral ports."""
    for first in range(21_000 + os.getpid() % 50 * 20, 23_900, count):
        probes = []
        try:
            for port in range(first, first + count):
                probe = socket.socket()
                probes.append(probe)
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        else:
            return first
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no free ports between 21000 and 23900")


class RunningFederation:
    """``fedbus up`` on free ports and a directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        first = free_range(40)
        self.directory = directory
        self.port = first
        self.url = f"http://127.0.0.1:{first}"
        self.file = directory / "federation.yaml"
        regions = {
            name: {"listen": {"ports": f"{first + 10 + 10 * i}-{first + 19 + 10 * i}"}, "instances": {"max": 4}}
            for i, name in enumerate(REGIONS)
        }
        options = {
            "name": "test",
            "regions": regions,
            "gateway": {"port": first},
            "data": {"directory": str(directory / "data")},
            "manager": {"tick_interval": "1s", "scale_in_window": "5s", "scale_in_pause": "1s", "calibrate": False},
        }
        self.file.write_text(yaml.safe_dump(options))
        self.process: subprocess.Popen[str] | None = None
        self.http = httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def up(self) -> None:
        """Start it and wait until it is ready; fails with what it printed if it is not."""
        log = (self.directory / "up.log").open("w")
        self.process = subprocess.Popen(
            [fedbus_command(), "up", "-c", str(self.file)], stdout=log, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        until(self._answers, 150, "fedbus up is ready", lambda: (self.directory / "up.log").read_text()[-4000:])

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "up.log").read_text()[-4000:]
        try:
            return self.http.get("/readyz").is_success and len(self.items("instances")) >= len(REGIONS)
        except httpx.HTTPError:
            return False

    def down(self, how: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, and wait for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(60)

    def items(self, resource: str, region: str = "") -> list[dict[str, Any]]:
        """A resource of the control API."""
        answer = self.http.get(f"/v1/{resource}", params={"region": region} if region else {})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    def instance(self, region: str) -> dict[str, Any]:
        """The first instance of a region."""
        return self.items("instances", region)[0]

    def publish(self, topic: str, data: Any) -> httpx.Response:
        """One JSON event over HTTP, in binary mode."""
        headers = {"ce-specversion": "1.0", "ce-id": uuid.uuid4().hex, "ce-source": "/test", "ce-type": "test"}
        return self.http.post(f"/v1/topics/{topic}/events", json=data, headers=headers)

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """A ``fedbus`` command against this federation."""
        return subprocess.run(
            [fedbus_command(), "--url", self.url, *arguments], capture_output=True, text=True, timeout=120, **options,
            check=False,
        )  # fmt: skip

    def processes(self, title: str) -> list[psutil.Process]:
        """Processes of this federation's cluster by the beginning of their title."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        found = []
        for process in children:
            try:
                if " ".join(process.cmdline()).startswith(title):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def fedbus_command() -> str:
    """The installed ``fedbus`` beside this Python."""
    return str(Path(sys.executable).parent / "fedbus")


@pytest.fixture(scope="package")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFederation]:
    """One federation for all tests of this folder that leave it whole."""
    running = RunningFederation(tmp_path_factory.mktemp("federation"))
    running.up()
    yield running
    assert running.process is not None
    if running.process.poll() is None:
        running.down()


@pytest.fixture
def events_file(tmp_path: Path) -> Callable[[int], Path]:
    """Makes an NDJSON file of so many events, 50 keys, numbered from 0."""

    def make(count: int) -> Path:
        path = tmp_path / "events.ndjson"
        with path.open("w") as lines:
            for number in range(count):
                lines.write(json.dumps({"n": number, "k": f"k{number % 50}"}) + "\n")
        return path

    return make
