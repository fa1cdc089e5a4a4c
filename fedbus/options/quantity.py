"""Quantities of the federation file as pydantic reads and writes them: durations, sizes, port ranges (``24000-24499``).

What a section does with a value is left to the section.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from fedbus.quantity import format_duration, format_size, parse_duration_ms, parse_size_bytes

HIGHEST_PORT = 65_535
_PORTS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")


class PortRange(NamedTuple):
    """Ports from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def size(self) -> int:
        """How many."""
        return self.last - self.first + 1

    def overlaps(self, other: PortRange) -> bool:
        """Whether a port is in both."""
        return self.first <= other.last and other.first <= self.last


def parse_port_range(written: Any) -> PortRange:
    """``24000-24499`` as a range; ValueError says what is wrong."""
    if isinstance(written, PortRange):
        return written
    found = _PORTS.fullmatch(written.strip()) if isinstance(written, str) else None
    if found is None or not 1 <= int(found[1]) <= int(found[2]) <= HIGHEST_PORT:
        raise ValueError(f"{written!r} is not a range of ports; write the first and the last, such as 24000-24499")
    return PortRange(int(found[1]), int(found[2]))


DurationMs = Annotated[int, BeforeValidator(parse_duration_ms), PlainSerializer(format_duration)]
SizeBytes = Annotated[int, BeforeValidator(parse_size_bytes), PlainSerializer(format_size)]
Ports = Annotated[PortRange, PlainValidator(parse_port_range), PlainSerializer(str)]
