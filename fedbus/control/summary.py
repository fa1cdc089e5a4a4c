"""Summaries: what a region tells its peers of itself, often and small.

All that one region knows of another: enough to route to it, to pull from it, and to stand in for its load.
"""

from __future__ import annotations

import msgspec

from fedbus.routing.table import InstanceRoute


class LedgerSummary(msgspec.Struct, frozen=True, array_like=True):
    """A ledger born in the region: its confirmed end, who serves it now, and whether it may still grow."""

    ledger: str
    end: int
    endpoint: str
    open: bool


class RegionSummary(msgspec.Struct, frozen=True):
    """A region at ``at_ns`` of its own clock; ``generation`` is its manager's epoch (a newer manager's word wins)."""

    region: str
    generation: int
    at_ns: int
    latitude: float
    longitude: float
    load_eps: float
    load_bps: float
    capacity_eps: float
    routes: list[InstanceRoute]
    ledgers: list[LedgerSummary]
