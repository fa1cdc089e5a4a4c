"""The voice of one region: what it says to its peers, all of it under its name and its manager's generation."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fedbus.control import peering_effects as e
from fedbus.control.membership import Membership
from fedbus.control.peer import Peer
from fedbus.control.peer_messages import Message, Report, encode
from fedbus.control.summary import RegionSummary


class Voice:
    """``generation``: of the manager that speaks; reports are numbered within it."""

    def __init__(self, region: str, generation: int) -> None:
        self.region = region
        self.generation = generation
        self._sequence = 0
        self._summary: RegionSummary | None = None

    def say(self, region: str, message: Message) -> e.Send:
        """To one region; :class:`TooLargeError`."""
        return e.Send(region, encode(self.region, self.generation, message))

    def learn(self, summary: RegionSummary | None, members: Membership, peers: Mapping[str, Peer], digest: str) -> None:
        """What the next report is to say. What the summary cannot know, who has made it, is filled in."""
        self._sequence += 1
        if summary is not None:
            round_trips = {
                region: round(peer.round_trip_ms, 3)
                for region, peer in peers.items()
                if peer.round_trip_ms is not None and peer.lost_since_ns is None
            }
            self._summary = msgspec.structs.replace(
                summary, region=self.region, generation=self.generation, members=members.told(),
                round_trips=round_trips, groups_digest=digest,
            )  # fmt: skip

    def report(self, peer: Peer, now_ns: int) -> e.Send:
        """The report to one peer."""
        peer.sent(self._sequence, now_ns)
        return self.say(peer.address.region, Report(self._sequence, peer.echo(now_ns), self._summary))

    def farewell(self, peer: Peer, members: Membership) -> e.Send | None:
        """The members as they are now, to one that is none any more (or from one that leaves)."""
        self._sequence += 1
        if self._summary is None:
            return None
        summary = msgspec.structs.replace(self._summary, members=members.told())
        return self.say(peer.address.region, Report(self._sequence, None, summary))
