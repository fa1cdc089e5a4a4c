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

from fedbus.errors import EnvironmentUnusableError

PREFIX = "fedbus-"
OWNER_FILE = "owner.pid"
SERVE_PORTS = range(32_000, 32_768)  # between the regions' ports and the ephemeral ones
STRETCH = 16
LONGEST_PARENT = 20
GRACE_S = 5.0
# What Ray would say on our terminal: how Serve's shutdown ends each time, restarts (the manager reports them), that we
# have many actors.
SKIPPED_OUTPUT = (
    r"Task ServeController\.graceful_shutdown failed|^A worker died or was killed while executing a task"
    r"|worker processes have been started on node"
)


class RunDirectory:
    """One short directory (Unix sockets have short paths), gone after :meth:`remove`.

    What an owner that was killed left behind (its HAProxy outlives it and holds the port) is swept away first.
    """

    def __init__(self) -> None:
        sweep(parent())
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent()))
        (self.path / OWNER_FILE).write_text(str(os.getpid()))

    @property
    def ray(self) -> Path:
        """Ray's temporary directory."""
        return self.path / "ray"

    def prepare(self) -> None:
        """Put what a head needs into this process's environment. Before Ray is imported."""
        os.environ.update(head_environment(self.path))

    def remove(self, grace_s: float = GRACE_S) -> None:
        """Delete everything, after ending what still runs from here (an interrupted start leaves Ray's agents)."""
        _, running = psutil.wait_procs(processes_of(self.path), grace_s)
        _kill(running)
        shutil.rmtree(self.path, ignore_errors=True)


def parent() -> Path:
    """Where run directories are made: HAProxy takes 97 characters for a socket, and 75 of them are spent below."""
    chosen = tempfile.gettempdir()
    return Path(chosen if len(chosen) <= LONGEST_PARENT else "/tmp")  # noqa: S108 - mkdtemp makes a private one there


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
    for directory in directories:
        _kill(processes_of(directory))
        shutil.rmtree(directory, ignore_errors=True)
    return directories


def processes_of(directory: Path) -> list[psutil.Process]:
    """Processes of the cluster that lives there: they name it in their arguments, or log into it under Ray's titles."""
    inside, found = f"{directory}/", []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            arguments = process.cmdline()
            if any(inside in argument for argument in arguments) or (
                arguments[:1]
                and arguments[0].startswith("ray::")
                and any(inside in f.path for f in process.open_files())
            ):
                found.append(process)
    return found


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, GRACE_S)


def head_environment(run_directory: Path) -> dict[str, str]:
    """What a head must have in its environment: HAProxy before Serve, all files below the run directory, a token."""
    haproxy = run_directory / "h"
    haproxy.mkdir()
    metrics_port, stats_port = _free_ports(2)
    ports = _free_stretch()
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # On a busy machine a proxy takes longer than Serve's 5 s to start; then it would be killed and begun anew.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "60",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports[0]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports[1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports[2]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports[-1]),
        "RAY_worker_niceness": "0",  # Ray's 15 is for batch work: brokers would starve beside any other process
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_AUTO_CONNECT": "0",  # a call that comes after the end must not start a cluster of its own
        "RAY_DEDUP_LOGS_SKIP_REGEX": SKIPPED_OUTPUT,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def _free_stretch() -> range:
    """Ports for Serve's replicas.

    They bind with SO_REUSEPORT: two clusters given the same port would share requests.
    """
    for first in range(SERVE_PORTS.start, SERVE_PORTS.stop - STRETCH, STRETCH):
        stretch = range(first, first + STRETCH)
        try:
            for port in stretch:
                with socket.socket() as probe:
                    probe.bind(("0.0.0.0", port))  # noqa: S104 - probed, not listened on
        except OSError:
            continue
        return stretch
    first, last = SERVE_PORTS.start, SERVE_PORTS.stop - 1
    raise EnvironmentUnusableError(
        f"no {STRETCH} free ports in a row between {first} and {last} for the gateway's replicas: "
        "stop a federation on this machine"
    )


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
