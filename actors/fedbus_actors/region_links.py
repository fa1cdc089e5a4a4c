"""The links of a region: what somebody here wants, who pulls it, and telling the instances (protocol rule 18).

The receiver of an origin ledger is a compare-and-swap in this region's store; the plan is pure (``control/links.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedbus.broker.effects import PeerLink
from fedbus.clock import Clock
from fedbus.control.links import Interest, LinkPlanner
from fedbus.control.summary import RegionSummary
from fedbus.ledger_record import LedgerRecord
from fedbus.storage.store import Store
from fedbus_actors.fleet import Fleet, Member


class RegionLinks:
    """Keeps the instances' links as the plan wants them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._planner = LinkPlanner()
        self._applied: dict[str, tuple[str, list[PeerLink]]] = {}
        self.links: dict[str, list[PeerLink]] = {}

    def step(self, fleet: Fleet, peers: Mapping[str, RegionSummary], ledgers: Sequence[LedgerRecord]) -> None:
        """Plan, assign what is new, tell whoever has other links than it should."""
        living = {
            name: member
            for name, member in fleet.members.items()
            if member.record.state == "serving" and member.report is not None and not _takes_over(member, ledgers)
        }
        assigned = self._assigned(fleet)
        scanned = {name: m.report.status.links for name, m in living.items() if m.report is not None}
        self.links = self._planner.plan(peers.values(), interest_of(fleet), assigned, scanned, sorted(living))
        for name, links in self.links.items():
            for link in links:
                if link.ledger not in assigned:
                    before = self._store.link_assignments.find(link.ledger)
                    self._store.link_assignments.assign(link.ledger, name, self._clock.now_ns(), before=before)
            self._tell(living[name], links)

    def _assigned(self, fleet: Fleet) -> dict[str, str]:
        """Receiver of each origin ledger. What one of the departed received passes on with the dispatch of its ledgers.

        If those are lost, another receiver begins anew (rule 18).
        """
        return {
            assignment.origin_ledger: assignment.receiver
            for assignment in self._store.link_assignments.all()
            if assignment.receiver in fleet.members
        }

    def _tell(self, member: Member, links: list[PeerLink]) -> None:
        assert member.report is not None
        told = (member.report.status.ledger, links)  # a new incarnation has to be told again
        if self._applied.get(member.record.id) != told and (links or member.record.id in self._applied):
            self._applied[member.record.id] = told
            member.handle.apply_links.remote(links)


def _takes_over(member: Member, ledgers: Sequence[LedgerRecord]) -> bool:
    """Whether it is to dispatch what it does not serve yet: how far that was pulled it knows only then."""
    held = {each.ledger: each for each in member.report.status.held} if member.report is not None else {}
    return any(
        record.state == "CLOSED"
        and record.dispatcher == member.name
        and (copy := held.get(record.id)) is not None
        and copy.complete(record)
        and not copy.serving
        for record in ledgers
    )


def interest_of(fleet: Fleet) -> Interest:
    """What groups and live subscriptions at the region's instances want; a group that began at latest wants no past."""
    durable: set[str] = set()
    live: set[str] = set()
    for member in fleet.members.values():
        if member.report is not None:
            live.update(member.report.status.live)
            for group in member.report.status.groups:
                (live if group.start == "latest" else durable).update(group.filters)
    return Interest(frozenset(durable), frozenset(live - durable))
