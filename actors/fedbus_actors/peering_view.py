"""What peering knows of the other regions, for whoever asks from another thread: as it was a moment ago."""

from __future__ import annotations

import msgspec

from fedbus.clock import NS_PER_S, SystemClock
from fedbus.control.peering import PeeringCore
from fedbus.control.summary import RegionAddress, RegionSummary


class PeerState(msgspec.Struct, frozen=True):
    """A peer as it was a moment ago. ``lost_since_ns``: monotonic; ``present``: it answers."""

    address: RegionAddress
    present: bool
    generation: int
    summary: RegionSummary | None
    lost_since_ns: int | None
    round_trip_ms: float | None


class PeeringView:
    """All of it; replaced as a whole by the one thread that calls :meth:`look`.

    ``dropped``: messages and handshakes not taken, and messages not sent, by why.
    """

    def __init__(self, members: list[RegionAddress]) -> None:
        self._clock = SystemClock()
        self._states: dict[str, PeerState] = {}
        self._members = members
        self.dropped: dict[str, int] = {}

    def look(self, core: PeeringCore, refused: int, unsent: int) -> None:
        """Take over what the core knows now, and what the sockets have counted."""
        self.dropped = {**core.dropped, "refused": refused, "unsent": unsent}
        self._members = core.members.all()
        self._states = {
            region: PeerState(
                peer.address, peer.present, peer.generation, peer.summary, peer.lost_since_ns, peer.round_trip_ms
            )
            for region, peer in core.peers.items()
        }

    @property
    def states(self) -> dict[str, PeerState]:
        """All other members."""
        return self._states

    @property
    def summaries(self) -> dict[str, RegionSummary]:
        """Their last words, those of lost ones too."""
        return {region: each.summary for region, each in self._states.items() if each.summary is not None}

    @property
    def lost(self) -> dict[str, int]:
        """Who is lost, and since when (monotonic, ns)."""
        states = self._states.items()
        return {region: each.lost_since_ns for region, each in states if each.lost_since_ns is not None}

    @property
    def round_trips(self) -> dict[str, float]:
        """In ms, of those that answer."""
        states = self._states.items()
        return {name: each.round_trip_ms for name, each in states if each.round_trip_ms is not None and each.present}

    def lost_for_s(self, region: str) -> float | None:
        """For how long (real seconds) a region has been lost; ``None`` if it is not."""
        since_ns = self.lost.get(region)
        return None if since_ns is None else (self._clock.monotonic_ns() - since_ns) / NS_PER_S

    def members(self) -> list[RegionAddress]:
        """All regions ever heard of, this one and those that left too."""
        return self._members

    def keys(self) -> dict[str, str]:
        """Public keys of the other members, by region."""
        return {name: each.address.public_key for name, each in self._states.items() if each.address.public_key}
