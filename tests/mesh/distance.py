"""Distance between hosts: the proxy at the router, started, steered and ended."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.mesh.namespaces import Host, Network

PROXY = Path(__file__).with_name("proxy.py")


class Distance:
    """A proxy for TCP to ``ports``, between the hosts that it is told."""

    def __init__(self, network: Network, ports: Iterable[int], log: Path) -> None:
        self._network = network
        command = ["ip", "netns", "exec", network.router, sys.executable, str(PROXY), *map(str, ports)]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", log.read_text()

    def between(self, one: Host, *others: Host) -> None:
        """From now on what goes between ``one`` and each of the others goes through the proxy."""
        for other in others:
            self._network.divert(one, other)

    def tell(self, **told: Any) -> None:
        """Steer it: ``delay_ms``, ``stalled``, ``reset``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End it."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(10)
