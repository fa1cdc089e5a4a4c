"""A child process of a run: spoken to over its standard input, ended by its process id and by nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

END_S = 15.0


class Child:
    """``python -m module CONFIG``; what it prints on stderr is appended to ``log``.

    ``within``: a command that runs the one behind it elsewhere, as the same process (``ip netns exec NAME``).
    """

    def __init__(
        self, module: str, config: Path, log: Path, *, answers: bool = False, within: Sequence[str] = ()
    ) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*within, sys.executable, "-m", module, str(config)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if answers else subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        self._frozen = False

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def streams(self) -> tuple[IO[bytes], IO[bytes]]:
        """Its standard input and (if it ``answers``) output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None, "it was started without answers"
        return self._process.stdin, self._process.stdout

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.alive:
            os.kill(self.pid, number)
            self._frozen = number == signal.SIGSTOP or (self._frozen and number != signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._process.kill()
        self._end()

    def end(self) -> None:
        """Ask it to end, insist after a while; returns when it is gone."""
        if self._frozen:
            self.signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what could not be written any more
                    stream.close()
