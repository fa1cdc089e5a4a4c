"""The links of a region: what somebody here wants, who pulls it, and telling the instances (protocol rule 18).

The receiver of an origin ledger is a compare-and-swap in this region's store; the plan is pure (``control/links.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from fedbus.broker.effects import PeerLink
from fedbus.broker.link_spans import reached as reached_by
from fedbus.broker.policies import TopicRule
from fedbus.clock import Clock
from fedbus.control.link_lag import LagMeter
from fedbus.control.links import ORDER_WAIT_NS, Interest, LinkPlanner, Scanned, forced, gone
from fedbus.control.summary import LinkLag, RegionSummary
from fedbus.ledger_record import LedgerRecord
from fedbus.storage.store import Store
from fedbus_actors.fleet import Fleet, Member

log = logging.getLogger(__name__)


class RegionLinks:
    """Keeps the instances' links as the plan wants them. ``lags``: by origin region."""

    def __init__(self, region: str, store: Store, clock: Clock, real: Clock) -> None:
        self._region = region
        self._store = store
        self._clock = clock
        self._real = real
        self._planner = LinkPlanner()
        self._meter = LagMeter()
        self._broken: set[str] = set()
        self._taking_since_ns: dict[str, int] = {}
        self._applied: dict[str, tuple[str, list[PeerLink]]] = {}
        self._admitted: dict[str, tuple[int, dict[str, str]]] = {}
        self.links: dict[str, list[PeerLink]] = {}
        self.lags: dict[str, LinkLag] = {}

    def step(
        self,
        fleet: Fleet,
        peers: Mapping[str, RegionSummary],
        ledgers: Sequence[LedgerRecord],
        interest: Interest,
        rules: Iterable[TopicRule],
        keys: Mapping[str, str],
    ) -> None:
        """Plan, assign what is new, tell whoever has other links than it should, and whom to let in (``keys``)."""
        now_ns = self._real.monotonic_ns()
        reports = {name: m.report.status for name, m in fleet.members.items() if m.report is not None}
        unready = self._unready(fleet, ledgers, now_ns)
        living = {
            name: member
            for name, member in fleet.members.items()
            if member.record.state == "serving" and name in reports and name not in unready
        }
        durable = interest.durable | forced(rules, self._region)
        wanted = Interest(durable, interest.live - durable, interest.began)
        assigned = self._assigned(fleet)
        scanned = {name: status.links for name, status in reports.items()}
        self.links = self._planner.plan(peers.values(), wanted, assigned, scanned, sorted(living), now_ns)
        self._complain()
        for name, links in self.links.items():
            for link in links:
                if link.ledger not in assigned:
                    before = self._store.link_assignments.find(link.ledger)
                    self._store.link_assignments.assign(link.ledger, name, self._clock.now_ns(), before=before)
            self._tell(living[name], links, sorted(gone(peers.values(), scanned[name])))
        for ledger in gone(peers.values(), assigned):
            self._store.link_assignments.forget(ledger)
        reached = self._reached(peers.values(), wanted, assigned, scanned)
        ages = [status.link_topics for status in reports.values()]
        self.lags = self._meter.measure(peers.values(), reached, ages, now_ns)
        self._admit(fleet, dict(keys))

    def _unready(self, fleet: Fleet, ledgers: Sequence[LedgerRecord], now_ns: int) -> set[str]:
        """Instances that take over a dispatch, each for as long as order waits: links must not wait for ever."""
        taking = {name for name, member in fleet.members.items() if _takes_over(member, ledgers)}
        self._taking_since_ns = {name: self._taking_since_ns.get(name, now_ns) for name in taking}
        return {name for name, since_ns in self._taking_since_ns.items() if now_ns - since_ns <= ORDER_WAIT_NS}

    def _complain(self) -> None:
        for ledger in sorted(self._planner.not_waited_for - self._broken):
            log.warning(
                "%s: nobody serves %s: later events of its instance overtake what is in it", self._region, ledger
            )
        self._broken = set(self._planner.not_waited_for)

    def _assigned(self, fleet: Fleet) -> dict[str, str]:
        """Receiver of each origin ledger. What one of the departed received passes on with the dispatch of its ledgers.

        If those are lost, another receiver begins anew (rule 18).
        """
        return {
            assignment.origin_ledger: assignment.receiver
            for assignment in self._store.link_assignments.all()
            if assignment.receiver in fleet.members
        }

    def _tell(self, member: Member, links: list[PeerLink], expired: list[str]) -> None:
        assert member.report is not None
        told = (member.report.status.ledger, links)  # a new incarnation has to be told again
        changed = self._applied.get(member.record.id) != told and (links or member.record.id in self._applied)
        if changed or expired:
            self._applied[member.record.id] = told
            member.handle.apply_links.remote(links, expired)

    def _reached(
        self, peers: Iterable[RegionSummary], interest: Interest, assigned: Mapping[str, str], scanned: Scanned
    ) -> dict[str, int]:
        """Of each origin ledger that is wanted, up to where all of it has come."""
        reached: dict[str, int] = {}
        for ledger in (each for peer in peers for each in peer.ledgers):
            done = scanned.get(assigned.get(ledger.ledger, ""), {}).get(ledger.ledger, {})
            wants = self._planner.wants(ledger, interest)
            if wants:
                reached[ledger.ledger] = min(reached_by(done, want) for want in wants)
        return reached

    def _admit(self, fleet: Fleet, keys: dict[str, str]) -> None:
        """Let instances of these regions in: default deny, and a new incarnation knows nobody."""
        for name, member in fleet.members.items():
            if member.report is not None and self._admitted.get(name) != (member.report.started_ns, keys):
                self._admitted[name] = member.report.started_ns, keys
                member.handle.apply_peers.remote(keys)


def _takes_over(member: Member, ledgers: Iterable[LedgerRecord]) -> bool:
    """Whether it dispatches what it does not serve yet: how far that was pulled it knows only then.

    Also what it is still cutting, or what the store has not closed yet: a link that began meanwhile would begin anew.
    """
    if member.report is None:
        return False
    status = member.report.status
    served = {status.ledger, *(each.ledger for each in status.held if each.serving)}
    return any(
        record.dispatcher == member.name
        and record.dispatcher_uuid in ("", member.report.directory_uuid)
        and record.id not in served
        for record in ledgers
    )
