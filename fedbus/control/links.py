"""Links: which instance of this region pulls which origin ledger, and for which filters (protocol rules 18, 19).

A receiver stays the receiver of an origin ledger: it has the events pulled so far, and dispatches them. When another
instance takes over the dispatch of what it wrote, the origin ledger passes on with that, in the same transaction.

Order per key survives an origin's restarts: all ledgers of one origin instance have the same receiver, and for each
filter a ledger is pulled only when the earlier ones are closed and were scanned to their ends. So a new filter works
its way through the old ledgers while the others go on with the newest. A ledger that nobody serves is waited for, but
not for ever. One in which something waits for the word that it has come here is pulled though it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fedbus.broker.effects import PeerLink
from fedbus.broker.link_spans import pattern_of, reached
from fedbus.broker.policies import TopicRule
from fedbus.broker.protocol import LinkFilter
from fedbus.control.summary import LedgerSummary, RegionSummary
from fedbus.position import LedgerId

ORDER_WAIT_NS = 60_000_000_000  # longer than a recovery: beyond it order per key gives way to freshness
Scanned = Mapping[str, Mapping[str, Mapping[str, int]]]


class Interest(msgspec.Struct, frozen=True):
    """What somebody in this region wants.

    Filters of groups and policies (their past too), and of live subscriptions (from now on). ``began``: filters of
    groups that began at latest, each with where it began in the ledgers there were (in later ones: at their beginning).
    """

    durable: frozenset[str] = frozenset()
    live: frozenset[str] = frozenset()
    began: Mapping[str, Sequence[Mapping[str, int]]] = {}

    @property
    def patterns(self) -> list[str]:
        """All filters, sorted."""
        return sorted(self.durable | self.live | self.began.keys())


def forced(rules: Iterable[TopicRule], region: str) -> frozenset[str]:
    """The filters that policies make a region pull, whether somebody there wants them or not."""
    return frozenset(
        rule.filter
        for rule in rules
        if region in rule.regions or rule.forward == "all" or (rule.durability == "federation" and not rule.regions)
    )


class LinkPlanner:
    """Remembers where live interest in a ledger begins, and who served it last; all else is in its arguments."""

    def __init__(self) -> None:
        self._starts: dict[tuple[str, str], int] = {}
        self._known: set[str] = set()
        self._seen: set[str] = set()
        self._endpoints: dict[str, str] = {}
        self._missing_since_ns: dict[str, int] = {}
        self.not_waited_for: set[str] = set()  # ledgers that nobody serves, and that later ones overtake by now

    def wants(
        self, ledger: LedgerSummary, interest: Interest, done: Mapping[str, int] | None = None
    ) -> list[LinkFilter]:
        """The filters to pull a ledger by, each with the offset to begin at.

        A group begins at the ledger's beginning, or where it began. A live subscription begins at the ledger's end as
        known when the interest was first seen; a ledger that came later is wanted whole. Who has just begun to plan
        goes on where the receiver is (``done``): what it sees for the first time may have been wanted for long.
        """
        wanted: list[LinkFilter] = []
        for pattern in interest.patterns:
            if pattern in interest.durable:
                start = 0
            elif pattern in interest.began:
                start = min(tails.get(ledger.ledger, 0) for tails in interest.began[pattern])
            else:
                arrived = 0 if pattern in self._known else ledger.end
                if ledger.ledger not in self._seen:
                    arrived = max(
                        (at for key, at in (done or {}).items() if pattern_of(key) == pattern), default=arrived
                    )
                start = self._starts.setdefault((ledger.ledger, pattern), arrived)
            wanted.append(LinkFilter(pattern, start))
        return wanted

    def plan(
        self,
        peers: Iterable[RegionSummary],
        interest: Interest,
        assigned: Mapping[str, str],
        scanned: Scanned,
        living: Sequence[str],
        now_ns: int = 0,
    ) -> dict[str, list[PeerLink]]:
        """Per living instance the links it is to hold.

        ``assigned``: origin ledger → receiver so far, if that is still a member of the region. ``scanned``: per
        instance, origin ledger and filter how far it pulled. A ledger that can grow no more and was scanned by all
        filters needs no link.
        """
        links: dict[str, list[PeerLink]] = {instance: [] for instance in living}
        peers = list(peers)
        for peer in sorted(peers, key=lambda each: each.region):
            for ledgers in _by_instance(peer.ledgers):
                receiver = self._receiver(ledgers, assigned, links)
                for ledger, wants in self._due(ledgers, interest, assigned, scanned, now_ns):
                    who = assigned.get(ledger.ledger, receiver)
                    if who in links:
                        link = PeerLink(ledger.ledger, self._endpoints[ledger.ledger], wants, peer.link_key)
                        links[who].append(link)
        self._known = set(interest.live)
        self._seen.update(each.ledger for peer in peers for each in peer.ledgers)
        self._forget(gone(peers, self._seen))
        return links

    def _forget(self, ledgers: set[str]) -> None:
        self._seen -= ledgers
        for known in (self._endpoints, self._missing_since_ns):
            for ledger in ledgers & known.keys():
                del known[ledger]
        self._starts = {key: at for key, at in self._starts.items() if key[0] not in ledgers}

    def _receiver(
        self, ledgers: Sequence[LedgerSummary], assigned: Mapping[str, str], links: Mapping[str, Sequence[PeerLink]]
    ) -> str:
        """Who pulls what is not assigned yet: whoever pulled before it, be it away, else who has the least to do."""
        before = [assigned[each.ledger] for each in ledgers if each.ledger in assigned]
        return before[-1] if before else min(links, key=lambda name: (len(links[name]), name), default="")

    def _due(
        self,
        ledgers: Sequence[LedgerSummary],
        interest: Interest,
        assigned: Mapping[str, str],
        scanned: Scanned,
        now_ns: int,
    ) -> Iterable[tuple[LedgerSummary, list[LinkFilter]]]:
        """Of one instance's ledgers those to be pulled now, each with the filters whose turn it is."""
        waiting: set[str] = set()  # filters that are not through with an earlier ledger
        for ledger in ledgers:
            done = scanned.get(assigned.get(ledger.ledger, ""), {}).get(ledger.ledger, {})
            wants = self.wants(ledger, interest, done)
            unfinished = [want for want in wants if not _finished(ledger, want, done)]
            turn = [want for want in wants if want.pattern not in waiting]
            served = self._served(ledger, now_ns)
            if served and (ledger.waits or any(want.pattern not in waiting for want in unfinished)):
                yield ledger, turn
            if served or self._to_be_waited_for(ledger, now_ns):
                waiting.update(want.pattern for want in unfinished)
                self.not_waited_for.discard(ledger.ledger)
            elif unfinished:
                self.not_waited_for.add(ledger.ledger)

    def _served(self, ledger: LedgerSummary, now_ns: int) -> bool:
        """Whether it is known who serves it; a word that names nobody does not take back an earlier one at once."""
        if ledger.endpoint:
            self._endpoints[ledger.ledger] = ledger.endpoint
            self._missing_since_ns.pop(ledger.ledger, None)
            return True
        self._missing_since_ns.setdefault(ledger.ledger, now_ns)
        return ledger.ledger in self._endpoints and self._to_be_waited_for(ledger, now_ns)

    def _to_be_waited_for(self, ledger: LedgerSummary, now_ns: int) -> bool:
        return now_ns - self._missing_since_ns.get(ledger.ledger, now_ns) <= ORDER_WAIT_NS


def gone(peers: Iterable[RegionSummary], known: Iterable[str]) -> set[str]:
    """Origin ledgers that have expired: their region tells of later ones of the same instance, and of these no more."""
    told: dict[tuple[str, str], set[int]] = {}
    for ledger in (LedgerId.parse(each.ledger) for peer in peers for each in peer.ledgers):
        told.setdefault((ledger.region, ledger.instance), set()).add(ledger.epoch)
    return {
        name
        for name in known
        for ledger in (LedgerId.parse(name),)
        if (epochs := told.get((ledger.region, ledger.instance))) and ledger.epoch not in epochs
        if ledger.epoch < max(epochs)
    }


def _by_instance(ledgers: Iterable[LedgerSummary]) -> list[list[LedgerSummary]]:
    """The ledgers of each origin instance, in the order in which it wrote them."""
    found: dict[str, list[tuple[int, LedgerSummary]]] = {}
    for ledger in ledgers:
        parsed = LedgerId.parse(ledger.ledger)
        found.setdefault(parsed.instance, []).append((parsed.epoch, ledger))
    return [[ledger for _, ledger in sorted(found[name], key=lambda each: each[0])] for name in sorted(found)]


def _finished(ledger: LedgerSummary, want: LinkFilter, scanned: Mapping[str, int]) -> bool:
    return not ledger.open and reached(scanned, want) >= ledger.end
