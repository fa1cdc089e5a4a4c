"""The decision: why a region has the number and the size of instances it has, as data for people and programs.

Nothing is decided here; a plan leaves what it weighed, and every directive carries the decision it follows from. It is
kept with the directive for as long as that is, so every field has a default: what an older version wrote is readable.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Cause = Literal[
    "forecast", "reactive", "trigger", "override", "repair", "minimum", "neighbour", "scale_in", "replacement"
]


class Level(msgspec.Struct, frozen=True):
    """One source's wish in instances, with its words; the load it is for, if it is for one (events/s, bytes/s)."""

    cause: Cause = "minimum"
    instances: int = 0
    why: str = ""
    eps: float = 0.0
    bps: float = 0.0
    at_ns: int = 0


class SizeConsidered(msgspec.Struct, frozen=True, kw_only=True):
    """One size: how many of it would hold what is needed, and their price per hour.

    ``events_per_s`` and ``bytes_per_s`` are what one is planned for: its capacity as it is known now (``basis`` says
    from where) at the planned utilisation. ``holds``: the region's maximum of them is enough.
    """

    size: str = ""
    instances: int = 0
    cost_per_hour: float = 0.0
    events_per_s: float = 0.0
    bytes_per_s: float = 0.0
    holds: bool = False
    chosen: bool = False
    basis: str = "declared"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``target`` instances of ``size`` to have, ``floor`` of them to keep, ``in_service`` and ``coming`` counted in it.

    ``levels``: every source's wish (the largest decides); ``sizes``: those considered, the cheapest first;
    ``violation_budget``: share of minutes in which the load may exceed what the instances hold at the SLA's latency;
    ``planned_budget``: what is planned with, after the feedback (a forecast is read at about 1 − that);
    ``minutes_violated`` of ``minutes_seen`` did so far.
    """

    target: int = 0
    floor: int = 0
    size: str = ""
    size_why: str = ""
    cost_per_hour: float = 0.0
    in_service: float = 0.0
    coming: float = 0.0
    minimum: int = 0
    maximum: int = 0
    spare: int = 0
    utilization: float = 1.0
    violation_budget: float = 0.0
    planned_budget: float = 0.0
    minutes_seen: int = 0
    minutes_violated: int = 0
    levels: tuple[Level, ...] = ()
    sizes: tuple[SizeConsidered, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def decisive(self) -> Level:
        """The wish that decides."""
        return max(self.levels, key=lambda level: level.instances, default=Level())
