"""The links of a region: what somebody here wants, who pulls it, and telling the instances (protocol rule 18).

The receiver of an origin ledger is a compare-and-swap in this region's store; the plan is pure (``control/links.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

from fedbus.broker.effects import PeerLink
from fedbus.clock import Clock
from fedbus.control.links import Interest, LinkPlanner
from fedbus.control.summary import RegionSummary
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

    def step(self, fleet: Fleet, peers: Mapping[str, RegionSummary]) -> None:
        """Plan, assign what is new, tell whoever has other links than it should."""
        living = {
            name: member
            for name, member in fleet.members.items()
            if member.record.state == "serving" and member.report is not None
        }
        assigned = self._assigned(fleet)
        scanned = {name: m.report.status.links for name, m in living.items() if m.report is not None}
        self.links = self._planner.plan(peers.values(), interest_of(fleet), assigned, scanned, sorted(living))
        for name, links in self.links.items():
            for link in links:
                if link.ledger not in assigned:
                    self._store.link_assignments.assign(link.ledger, name, self._clock.now_ns())
            self._tell(living[name], links)

    def _assigned(self, fleet: Fleet) -> dict[str, str]:
        """Receiver of each origin ledger; what a drained instance received, its adopter receives now."""
        adopters = {
            record.id: record.adopted_by
            for record in self._store.instances.all(state="stopped")
            if record.adopted_by in fleet.members
        }
        assigned: dict[str, str] = {}
        for assignment in self._store.link_assignments.all():
            receiver = adopters.get(assignment.receiver, assignment.receiver)
            if receiver != assignment.receiver:
                now_ns = self._clock.now_ns()
                self._store.link_assignments.assign(assignment.origin_ledger, receiver, now_ns, before=assignment)
            assigned[assignment.origin_ledger] = receiver
        return assigned

    def _tell(self, member: Member, links: list[PeerLink]) -> None:
        assert member.report is not None
        told = (member.report.status.ledger, links)  # a new incarnation has to be told again
        if self._applied.get(member.record.id) != told and (links or member.record.id in self._applied):
            self._applied[member.record.id] = told
            member.handle.apply_links.remote(links)


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
