"""Peering: what the managers of the regions tell one another, as one state machine per region.

Each tick a region reports to every other one it knows: its summary, with the members and the digest of the groups it
knows, and what it last heard of the receiver. From the reports of the others follow who is a member, who is lost, how
far away it is, and which definitions of groups are new. Nobody leads; what two regions know flows together, in any
order of arrival. The word of a manager's successor counts more than its own, and no older summary replaces a newer one.

Assumes that ``sender`` of what is received has been proven by the connection's key, and that messages may be lost,
late, doubled and out of order. Left to others: sockets, time, storage, and what the regions do about a lost one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from fedbus.broker.group_spec import GroupRecord
from fedbus.control import peering_effects as e
from fedbus.control.membership import Membership
from fedbus.control.peer import Peer, PeeringSettings
from fedbus.control.peer_calls import PeerCalls
from fedbus.control.peer_messages import Envelope, Groups, Report, Request, decode
from fedbus.control.peer_voice import Voice
from fedbus.control.summary import RegionAddress
from fedbus.errors import ProtocolError

STOOD_STILL_INTERVALS = 3


class GroupDefinitions(Protocol):
    """The definitions of groups that a region has, for all regions to know (``group_definitions.py`` merges them)."""

    def records(self) -> list[GroupRecord]:
        """All of them, deleted ones too."""
        ...

    def digest(self) -> str:
        """Equal in two regions if and only if they have the same."""
        ...


class PeeringCore:
    """One region's peering. ``dropped``: messages not taken, by why; ``peers``: the other members, by name.

    ``groups`` is asked for what it has, and told in effects what is heard; it is this region's to merge them.
    """

    def __init__(
        self,
        own: RegionAddress,
        known: Iterable[RegionAddress],
        generation: int,
        now_ns: int,
        groups: GroupDefinitions,
        settings: PeeringSettings | None = None,
    ) -> None:
        """``generation``: epoch of this region's manager, higher than that of any before it."""
        self.members = Membership(own, known)
        self.peers: dict[str, Peer] = {}
        self._groups = groups
        self.dropped: Counter[str] = Counter()
        self._settings = settings or PeeringSettings()
        self._voice = Voice(own.region, generation)
        self._calls = PeerCalls(self._voice, self.peers, self._settings.calls)
        self._ticked_ns = now_ns
        self._inputs: dict[type, Callable[[Any, int], list[e.Effect]]] = {
            e.Tick: self._tick, e.Received: self._received, e.AddRegion: self._change, e.RemoveRegion: self._change,
            e.LearnAddress: self._change, e.PublishGroups: self._publish_groups, e.Call: self._calls.call,
            e.Performed: self._calls.performed,
        }  # fmt: skip

    def begin(self, now_ns: int) -> list[e.Effect]:
        """What is to be done before the first input: store what is known, connect to all of it."""
        return self._follow(self.members.all(), now_ns)

    def handle(self, event: e.Input, now_ns: int) -> list[e.Effect]:
        """What follows; an operator's wrong word raises and changes nothing. ``now_ns``: monotonic."""
        return self._inputs[type(event)](event, now_ns)

    # -- time ----------------------------------------------------------------------------------------------------------

    def _tick(self, tick: e.Tick, now_ns: int) -> list[e.Effect]:
        stood_still = now_ns - self._ticked_ns > STOOD_STILL_INTERVALS * self._settings.interval_ns
        self._ticked_ns = now_ns
        self._voice.learn(tick.summary, self.members, self.peers, self._groups.digest())
        effects: list[e.Effect] = []
        for region, peer in self.peers.items():
            if stood_still:
                peer.excuse(now_ns)
            if peer.judge(now_ns):
                effects.append(e.PeerLost(region))
            if peer.address.public_key:
                effects += [*self._dial(peer, now_ns), self._voice.report(peer, now_ns)]
        return effects + self._calls.give_up(now_ns)

    def _dial(self, peer: Peer, now_ns: int) -> list[e.Effect]:
        if not peer.address.public_key or not peer.due_for_dial(now_ns):
            return []
        peer.dialled_ns = now_ns
        return [e.Connect(peer.address.region, peer.address.endpoint, peer.address.public_key)]

    # -- what others say -----------------------------------------------------------------------------------------------

    def _received(self, received: e.Received, now_ns: int) -> list[e.Effect]:
        try:
            envelope = decode(received.data)
        except ProtocolError:
            return self._drop("garbage")
        peer = self.peers.get(envelope.region)
        if received.sender != envelope.region:
            return self._drop("forged")
        if peer is None:
            return self._drop("unknown")
        if peer.has_superseded(envelope.generation):
            return self._drop("superseded")
        return self._take(peer, envelope, now_ns)

    def _drop(self, why: str) -> list[e.Effect]:
        self.dropped[why] += 1
        return []

    def _take(self, peer: Peer, envelope: Envelope, now_ns: int) -> list[e.Effect]:
        message = envelope.message
        if isinstance(message, Report):
            return self._reported(peer, message, now_ns)
        if isinstance(message, Groups):
            return [e.GroupsHeard(envelope.region, message.records)]
        if isinstance(message, Request):
            asked = self._calls.requested(envelope.region, envelope.generation, message)
            return [asked] if asked is not None else self._drop("repeated")
        answered = self._calls.answered(envelope.region, message)
        return [answered] if answered is not None else self._drop("unasked")

    def _reported(self, peer: Peer, report: Report, now_ns: int) -> list[e.Effect]:
        was_there = peer.present
        if not peer.reported(report, self._voice.generation, now_ns):
            return self._drop("repeated")
        effects: list[e.Effect] = [e.PeerFound(peer.address.region)] if peer.present and not was_there else []
        if report.summary is not None:
            effects += self._exchange_groups(peer, report.summary.groups_digest, now_ns)
            learned = [
                address for address in report.summary.members if self.members.learn(address, peer.address.region)
            ]
            effects += self._follow(learned, now_ns)
        return effects

    # -- members -------------------------------------------------------------------------------------------------------

    def _change(self, change: e.AddRegion | e.RemoveRegion | e.LearnAddress, now_ns: int) -> list[e.Effect]:
        if isinstance(change, e.AddRegion):
            return self._follow([self.members.add(change.region, change.endpoint, change.public_key)], now_ns)
        if isinstance(change, e.RemoveRegion):
            return self._follow([self.members.remove(change.region)], now_ns)
        return self._follow([change.address] if self.members.learn(change.address) else [], now_ns)

    def _follow(self, changed: Iterable[RegionAddress], now_ns: int) -> list[e.Effect]:
        """Store what changed, and let the peers be those that the membership names.

        One that has to go is told so, as far as it listens.
        """
        names = {address.region for address in changed}
        if not names:
            return []
        others = self.members.others()
        keep = [e.KeepMember(each) for each in self.members.told() if each.region in names]
        admit = e.Admit({each.public_key: name for name, each in others.items() if each.public_key})
        effects: list[e.Effect] = [*keep, admit]
        for region in sorted(self.peers.keys() - others.keys()):
            farewell = self._voice.farewell(self.peers.pop(region), self.members)
            effects += [farewell] if farewell is not None else []
            effects.append(e.Disconnect(region))
        for region, address in others.items():
            peer = self.peers.get(region)
            if peer is None or peer.address.public_key != address.public_key:
                peer = self.peers[region] = Peer(address, self._settings, now_ns)  # whoever has the key is somebody new
            elif peer.address.endpoint != address.endpoint:
                peer.dialled_ns = None
            peer.address = address
            effects += self._dial(peer, now_ns)
        return effects

    # -- groups --------------------------------------------------------------------------------------------------------

    def _publish_groups(self, published: e.PublishGroups, _: int) -> list[e.Effect]:
        return [send for region in self.peers for send in self._tell_groups(region, published.records)]

    def _tell_groups(self, region: str, records: list[GroupRecord]) -> list[e.Effect]:
        at_once = self._settings.groups_at_once
        parts = (records[start : start + at_once] for start in range(0, len(records), at_once))
        return [self._voice.say(region, Groups(part)) for part in parts]

    def _exchange_groups(self, peer: Peer, digest: str, now_ns: int) -> list[e.Effect]:
        """All of them to a region that has others; it does the same, so both end up with the same."""
        recent = peer.exchanged_ns is not None and now_ns - peer.exchanged_ns < self._settings.exchange_ns
        if digest == self._groups.digest() or recent:
            return []
        peer.exchanged_ns = now_ns
        return self._tell_groups(peer.address.region, self._groups.records())
