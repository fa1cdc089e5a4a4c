"""Links: which instance of this region pulls which origin ledger, and for which filters (protocol rules 18, 19).

A receiver stays the receiver of an origin ledger: it has the events pulled so far, and dispatches them. When another
instance takes over the dispatch of what it wrote, the origin ledger passes on with that, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fedbus.broker.effects import PeerLink
from fedbus.broker.protocol import LinkFilter
from fedbus.control.summary import LedgerSummary, RegionSummary


class Interest(msgspec.Struct, frozen=True):
    """What somebody in this region wants.

    Filters of groups (their past too), and of live subscriptions (from now on).
    """

    durable: frozenset[str] = frozenset()
    live: frozenset[str] = frozenset()

    @property
    def patterns(self) -> list[str]:
        """All filters, sorted."""
        return sorted(self.durable | self.live)


class LinkPlanner:
    """Remembers where live interest in a ledger begins; all else is in its arguments."""

    def __init__(self) -> None:
        self._starts: dict[tuple[str, str], int] = {}
        self._known: set[str] = set()

    def wants(self, ledger: LedgerSummary, interest: Interest) -> list[LinkFilter]:
        """The filters to pull a ledger by, each with the offset to begin at.

        A group begins at the ledger's beginning. A live subscription begins at the ledger's end as known when the
        interest was first seen; a ledger that came later is wanted whole.
        """
        wanted: list[LinkFilter] = []
        for pattern in interest.patterns:
            if pattern in interest.durable:
                start = 0
            else:
                arrived = 0 if pattern in self._known else ledger.end
                start = self._starts.setdefault((ledger.ledger, pattern), arrived)
            wanted.append(LinkFilter(pattern, start))
        return wanted

    def plan(
        self,
        peers: Iterable[RegionSummary],
        interest: Interest,
        assigned: Mapping[str, str],
        scanned: Mapping[str, Mapping[str, Mapping[str, int]]],
        living: Sequence[str],
    ) -> dict[str, list[PeerLink]]:
        """Per living instance the links it is to hold.

        ``assigned``: origin ledger → receiver so far. ``scanned``: per instance, origin ledger and filter how far it
        pulled. A ledger that can grow no more and was scanned by all filters needs no link.
        """
        links: dict[str, list[PeerLink]] = {instance: [] for instance in living}
        if living and interest.patterns:
            for ledger in sorted((each for peer in peers for each in peer.ledgers), key=lambda each: each.ledger):
                receiver = assigned.get(ledger.ledger)
                wants = self.wants(ledger, interest)
                if receiver is None:
                    if not ledger.open and all(want.scanned_to >= ledger.end for want in wants):
                        continue
                    receiver = min(living, key=lambda instance: (len(links[instance]), instance))
                if receiver in links and not _finished(ledger, wants, scanned.get(receiver, {}).get(ledger.ledger, {})):
                    links[receiver].append(PeerLink(ledger.ledger, ledger.endpoint, wants))
        self._known = set(interest.live)
        return links


def _finished(ledger: LedgerSummary, wants: Iterable[LinkFilter], scanned: Mapping[str, int]) -> bool:
    if ledger.open:
        return False
    return all(scanned.get(want.pattern, want.scanned_to) >= ledger.end for want in wants)
