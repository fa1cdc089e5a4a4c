"""Absence: notices that whoever looks on was stopped itself, so that it blames nobody for silence meanwhile."""

from __future__ import annotations


class Absence:
    """``limit_ns``: more than this between two looks is no slowness any more. Times are monotonic nanoseconds."""

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = limit_ns
        self._looked_ns: int | None = None

    def look(self, now_ns: int) -> int:
        """How long it was away since the last look, in nanoseconds; 0 if it was not."""
        gap_ns = 0 if self._looked_ns is None else now_ns - self._looked_ns
        self._looked_ns = now_ns
        return gap_ns if gap_ns > self._limit_ns else 0
