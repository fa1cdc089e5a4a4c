"""A server process of a system under test: started with a log of its own, ended with all its children in any case."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fedbus.errors import EnvironmentUnusableError
from fedbus_loadtests.bench.system import Stopwatch

START_S = 60.0
STOP_S = 10.0
POLL_S = 0.05
LOG_TAIL = 1500  # characters shown when it does not start


class ServerProcess:
    """A command in a process group of its own, which ends with this process at the latest (Linux)."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ) | dict(environment or {}),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def listening(self, port: int) -> None:
        """Wait until the port takes connections."""
        watch = Stopwatch()
        while True:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            self._check(watch, f"does not listen on port {port}")
            await asyncio.sleep(POLL_S)

    async def said(self, words: str, patience_s: float = START_S) -> str:
        """Wait until its log holds a line with these words; that line."""
        watch = Stopwatch()
        while True:
            for line in self.log.read_text(errors="replace").splitlines():
                if words in line:
                    return line
            self._check(watch, f"did not say {words!r}", patience_s)
            await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    async def stop(self, patience_s: float = STOP_S) -> None:
        """End it, and by force whatever of it does not end in time."""
        if self.process.poll() is None:
            self.process.terminate()
            watch = Stopwatch()
            while self.process.poll() is None and watch.seconds < patience_s:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(POLL_S)
        self.kill()

    def _check(self, watch: Stopwatch, what: str, patience_s: float = START_S) -> None:
        ended = self.process.poll()
        if ended is None and watch.seconds < patience_s:
            return
        state = f"ended with status {ended}" if ended is not None else f"{what} after {patience_s:.0f} s"
        tail = self.log.read_text(errors="replace")[-LOG_TAIL:]
        raise EnvironmentUnusableError(f"{self.name} {state}; its last words:\n{tail}")


def program(name: str, places: Sequence[Path], remedy: str) -> str:
    """Where a program is: in one of these places, or on the path; an error that says how to install it."""
    found = next((str(place / name) for place in places if (place / name).exists()), None) or shutil.which(name)
    if found is None:
        raise EnvironmentUnusableError(f"{name} is not installed: {remedy}")
    return found


def package_version(package: str) -> str:
    """The version of a peer's client; an error that says how to install it."""
    try:
        return version(package)
    except PackageNotFoundError:
        raise EnvironmentUnusableError(f"{package} is not installed: pip install 'fedbus[bench]'") from None
