"""Free ports for federations that are started only for a while: outside Ray's and the ephemeral ranges."""

from __future__ import annotations

import socket

from fedbus.errors import EnvironmentUnusableError
from fedbus_actors.cli.network_checks import bindable

FIRST, LAST = 26_000, 31_900
HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def free_blocks(blocks: int, ports_per_block: int, used_per_block: int) -> int:
    """First port of adjacent blocks in each of which the first ``used_per_block`` ports are free now."""
    width = blocks * ports_per_block
    for first in range(FIRST, LAST - width, width):
        starts = range(first, first + width, ports_per_block)
        if all(bindable(HOST, port) for start in starts for port in range(start, start + used_per_block)):
            return first
    raise EnvironmentUnusableError(
        f"no {width} ports in a row are free between {FIRST} and {LAST}: stop what uses them"
    )
