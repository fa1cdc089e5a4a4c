"""The run directory of a cluster of our own: Ray's and HAProxy's files, and the environment its head is started in.

Ray reads much of its environment when it is *imported*, so this module imports no Ray, and :func:`prepare` comes first.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path

import psutil

PREFIX = "fedbus-"
OWNER_FILE = "owner.pid"


class RunDirectory:
    """One short directory (Unix sockets have short paths), gone after :meth:`remove`.

    What an owner that was killed left behind (its HAProxy outlives it and holds the port) is swept away first.
    """

    def __init__(self) -> None:
        sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        (self.path / OWNER_FILE).write_text(str(os.getpid()))

    @property
    def ray(self) -> Path:
        """Ray's temporary directory."""
        return self.path / "ray"

    def prepare(self) -> None:
        """Put what a head needs into this process's environment. Before Ray is imported."""
        os.environ.update(head_environment(self.path))

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.path, ignore_errors=True)


def stale(root: Path) -> list[Path]:
    """Our run directories whose owner is dead."""
    found: list[Path] = []
    for owner_file in root.glob(f"{PREFIX}*/{OWNER_FILE}"):
        with contextlib.suppress(OSError, ValueError):
            if owner_file.stat().st_uid == os.getuid() and not psutil.pid_exists(int(owner_file.read_text())):
                found.append(owner_file.parent)
    return found


def sweep(root: Path) -> list[Path]:
    """Remove run directories whose owner is dead, and end the processes that were started from them."""
    directories = stale(root)
    for process in psutil.process_iter(["cmdline"]) if directories else ():
        arguments = process.info["cmdline"] or []
        if any(f"{directory}/" in argument for directory in directories for argument in arguments):
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(5)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    return directories


def head_environment(run_directory: Path) -> dict[str, str]:
    """What a head must have in its environment: HAProxy in front of Serve, all files below the run directory, a token."""
    haproxy = run_directory / "haproxy"
    haproxy.mkdir()
    metrics_port, stats_port = _free_ports(2)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
