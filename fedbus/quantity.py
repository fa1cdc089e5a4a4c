"""Durations and sizes as people write them, in files and on the command line: ``7d``, ``250ms``, ``10GiB``.

A number without its unit is refused rather than guessed.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

DURATIONS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
SIZES_BYTES = {
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
LARGEST = 2**63 - 1  # what every store and wire of ours can hold
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]+)")


def _parse(written: Any, units: dict[str, int], kind: str, examples: str) -> int:
    if isinstance(written, int) and not isinstance(written, bool):
        raise ValueError(  # noqa: TRY004 -- what cannot be read is a ValueError, and pydantic reports no other
            f"{written} has no unit; write a {kind} such as {examples}"
        )
    found = _QUANTITY.fullmatch(written.strip()) if isinstance(written, str) else None
    if found is None or found[2] not in units:
        raise ValueError(
            f"{written!r} is not a {kind}; write a number and one of {', '.join(units)}, such as {examples}"
        )
    exact = Decimal(found[1]) * units[found[2]]
    if exact != int(exact) or exact > LARGEST:
        raise ValueError(f"{written!r} is not a whole number of {next(iter(units))} below 2^63")
    return int(exact)


def _format(amount: int, units: dict[str, int]) -> str:
    fitting = [(size, unit) for unit, size in units.items() if amount % size == 0 and amount >= size]
    size, unit = max(fitting, default=(1, next(iter(units))))
    return f"{amount // size}{unit}"


def parse_duration_ms(written: Any) -> int:
    """Milliseconds of ``250ms``, ``1.5h``, ``7d``; ValueError says what is wrong."""
    return _parse(written, DURATIONS_MS, "duration", "250ms, 30s or 7d")


def parse_size_bytes(written: Any) -> int:
    """Bytes of ``10GiB``, ``64 KiB``, ``5MB``; ValueError says what is wrong."""
    return _parse(written, SIZES_BYTES, "size", "64KiB, 10GiB or 5MB")


def format_duration(duration_ms: int) -> str:
    """The shortest exact spelling: ``604800000`` → ``1w``."""
    return _format(duration_ms, DURATIONS_MS)


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling: ``67108864`` → ``64MiB``."""
    return _format(size_bytes, SIZES_BYTES)
