"""Summaries: what a region tells its peers of itself, often and small.

All that one region knows of another: enough to route to it, to pull from it, and to stand in for its load.
"""

from __future__ import annotations

import msgspec

from fedbus.routing.table import InstanceRoute


class RegionAddress(msgspec.Struct, frozen=True):
    """Where a region's manager hears its peers, and how it proves who it is; ``public_key``: Z85.

    Told on by everybody: of two about one region that with the higher ``version`` counts. ``left``: it is a member no
    more, and stays known as such.
    """

    region: str
    endpoint: str
    public_key: str
    version: int = 1
    left: bool = False


class LedgerSummary(msgspec.Struct, frozen=True, array_like=True):
    """A ledger born in the region: its confirmed end, who serves it now to links, and whether it may still grow.

    ``waits``: something in it counts only when another region says that it has it (rule 20).
    """

    ledger: str
    end: int
    endpoint: str
    open: bool
    waits: bool = False


class LinkLag(msgspec.Struct, frozen=True, array_like=True):
    """How far a region is behind an origin region.

    ``events`` not yet pulled (at most), the oldest of them ``lag_ms`` old; by topic too, the worst of them.
    """

    events: int
    lag_ms: int
    topics: dict[str, int] = {}


class RegionSummary(msgspec.Struct, frozen=True):
    """A region at ``at_ns`` of its own clock; ``generation`` is its manager's epoch (a newer manager's word wins).

    ``link_key``: public key of its instances' link endpoints (Z85). ``interest``: filters that somebody there wants.
    ``lags``: by origin region. ``round_trips``: in ms, by peer. ``gateway``: URL for clients. ``members``: all regions
    it knows. ``groups_digest``: of the group definitions it has.
    """

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
    link_key: str = ""
    interest: list[str] = []
    lags: dict[str, LinkLag] = {}
    round_trips: dict[str, float] = {}
    gateway: str = ""
    members: list[RegionAddress] = []
    groups_digest: str = ""
