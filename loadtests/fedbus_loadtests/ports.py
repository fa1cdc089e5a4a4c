"""Free ports for federations that are started only for a while: outside Ray's and the ephemeral ranges."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from fedbus.errors import EnvironmentUnusableError

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
        if _are_free(port for start in starts for port in range(start, start + used_per_block)):
            return first
    raise EnvironmentUnusableError(
        f"no {width} ports in a row are free between {FIRST} and {LAST}: stop what uses them"
    )


def _are_free(ports: Iterable[int]) -> bool:
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True
