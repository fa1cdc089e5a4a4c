"""Following: what groups have settled in other regions is kept here too, so that this region can take them over.

Every instance follows every instance of the other regions of a group (its manager says which), and records what it
hears of all origin ledgers, its own or not: so whoever dispatches a ledger when the group comes home knows what of it
is settled, also if another instance received it before. What is heard is merged by union (protocol rule 13).
"""

from __future__ import annotations

from collections.abc import Sequence

from fedbus.broker import protocol as p
from fedbus.broker.effects import PeerFollow, SendPeer
from fedbus.broker.groups import Groups
from fedbus.broker.peers import Peers
from fedbus.broker.sharing import Sharing
from fedbus.errors import StorageError

USER = "follows"
ASK_AGAIN_NS = 1_000_000_000


class Source:
    """One instance that is followed. ``number``: of the subscription in its present session (0: none)."""

    def __init__(self, follow: PeerFollow) -> None:
        self.follow = follow
        self.number = 0
        self.request = 0
        self.asked: list[p.FollowedGroup] = []
        self.asked_ns = 0
        self.answered = False
        self.heard = False  # whether its present session has told anything


class Following:
    """All that are followed by one instance."""

    def __init__(self, groups: Groups, peers: Peers, sharing: Sharing) -> None:
        self._groups = groups
        self._sharing = sharing
        self._peers = peers
        self._sources: dict[str, Source] = {}
        self._numbers = 0
        self._requests = 0  # numbered downwards: links, which share the connection, number theirs upwards

    def apply(self, follows: Sequence[PeerFollow], now_ns: int) -> None:
        """Follow exactly these from now on."""
        before, self._sources = self._sources, {}
        for follow in follows:
            source = before.get(follow.endpoint)
            if source is None or source.follow.key != follow.key:
                source = Source(follow)
            source.follow = follow
            self._sources[follow.endpoint] = source
        keys = {endpoint: source.follow.key for endpoint, source in self._sources.items()}
        self._peers.keep(USER, list(keys), now_ns, keys=keys)
        self._ask(now_ns)

    def received(self, endpoint: str, message: p.FromInstance, now_ns: int) -> None:
        """An instance that is followed says something."""
        source = self._sources.get(endpoint)
        if source is None or not self._peers.ready(endpoint):
            return
        if isinstance(message, p.Welcome):
            source.number = 0  # the session is a new one
            self._lost(source)
            self._ask(now_ns)
        elif isinstance(message, p.Ok) and message.request == source.request:
            source.answered = True
        elif isinstance(message, p.Shared) and message.subscription == source.number:
            self._take(endpoint, message, now_ns)

    def _take(self, endpoint: str, shared: p.Shared, now_ns: int) -> None:
        self._sources[endpoint].heard = True
        for part in shared.parts:
            group = self._groups.get(part.group)
            if group is not None and group.spec.identity == part.identity:
                group.settlement.learn(part.settled, tell=shared.full)
                group.deliveries.in_flight.settled()
        try:
            taken = SendPeer(endpoint, p.Taken(shared.subscription, shared.number))
            self._groups.acks.ok_when_durable(taken, now_ns)
        except StorageError:
            return  # it will be told again, here or to whoever comes after this instance

    def _lost(self, source: Source) -> None:
        """Its session has ended: others may have missed what was heard in it."""
        if source.heard:
            source.heard = False
            self._sharing.tell_all()

    def tick(self, now_ns: int) -> None:
        """Time has passed: groups may have been made, moved or deleted."""
        self._ask(now_ns)

    def _ask(self, now_ns: int) -> None:
        for endpoint, source in self._sources.items():
            if not self._peers.ready(endpoint):
                self._lost(source)
                continue
            wanted = [
                p.FollowedGroup(name, *group.spec.identity)
                for name in source.follow.groups
                if (group := self._groups.get(name)) is not None
            ]
            late = not source.answered and now_ns - source.asked_ns >= ASK_AGAIN_NS
            if not source.number:
                self._numbers += 1
                source.number = self._numbers
            elif wanted == source.asked and not late:
                continue
            self._requests -= 1
            source.request, source.asked, source.asked_ns, source.answered = self._requests, wanted, now_ns, False
            self._peers.send(endpoint, p.Follow(source.request, source.number, wanted))
