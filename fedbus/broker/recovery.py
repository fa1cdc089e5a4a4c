"""Recovery: the state of an instance as the fold of what its earlier incarnations recorded, and the snapshot of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fedbus.broker.group_spec import GroupRecord
from fedbus.broker.intake import Intake
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link import LinkTargets
from fedbus.broker.record import Kind, Record, encode_body
from fedbus.broker.retention import Retention
from fedbus.broker.state import (
    Snapshot,
    expired_decoder,
    group_decoder,
    rejected_decoder,
    released_decoder,
    resolved_decoder,
    scanned_decoder,
    settled_decoder,
    snapshot_decoder,
)
from fedbus.broker.subscriptions import Subscriptions

States = Iterable[tuple[str, Record]]  # (ledger, record), from the newest snapshot on, in the order they were written


class FoldedState:
    """Everything an instance remembers beyond events, in the parts that hold it."""

    def __init__(
        self,
        ledgers: Ledgers,
        intake: Intake,
        subscriptions: Subscriptions,
        links: LinkTargets,
        retention: Retention,
    ) -> None:
        self._ledgers = ledgers
        self._intake = intake
        self._groups = subscriptions.fold
        self._links = links.progress
        self._retention = retention
        ledgers.snapshot = self.snapshot
        subscriptions.groups.homes.ends = self.ends

    def lacks(self, lacking: Callable[[], list[str]]) -> None:
        """Who says which ledgers are still to be folded in."""
        self._intake.judge.lacking = lacking

    def damaged(self, ledgers: Iterable[str]) -> None:
        """What is going to be folded in is not all that was written in these."""
        for ledger in ledgers:
            self._intake.dedup.damaged(ledger)

    def snapshot(self) -> bytes:
        """The body of a SNAPSHOT record."""
        dedup, groups, links = self._intake.dedup.snapshot(), self._groups.states(), self._links.state()
        losses, withheld = self._retention.losses.state(), self._ledgers.withheld.state()
        seen = self._intake.seen_ids.state()
        lacking = self._intake.judge.lacking()
        ends = {name: self._ledgers.end(name) for name in self._ledgers.closed}
        geo = self._ledgers.geo.state(ends | {self._ledgers.current: self._ledgers.next_offset()})
        return encode_body(
            Snapshot(dedup, groups, links, losses, self._groups.tombstones(), withheld, seen, lacking, geo)
        )

    def recover(self, state: States, ledgers: Iterable[str], now_ns: int) -> None:
        """Fold ``state`` in, serve what is left to do in these ledgers, and record the outcome in one snapshot."""
        for ledger, record in state:
            self._fold(ledger, record)
        self._groups.complete(ledgers, self.ends())
        self._ledgers.snapshot_now(now_ns)

    def ends(self) -> dict[str, int]:
        """Up to where events of each origin ledger have come here."""
        linked = {ledger: max(scanned.values(), default=0) for ledger, scanned in self._links.scanned.items()}
        return linked | {name: self._ledgers.end(name) for name in self._ledgers.names()}

    def _fold(self, ledger: str, record: Record) -> None:
        match record.kind:
            case Kind.EVENTS:
                self._intake.fold(ledger, record)
                origin = record.events_meta().origin
                if origin is not None:
                    self._links.fold(origin.ledger, dict.fromkeys(origin.since, origin.scanned_to))
            case Kind.SETTLED:
                self._groups.settled(settled_decoder.decode(record.payload))
            case Kind.GROUP:
                self._groups.group(group_decoder.decode(record.payload))
            case Kind.SCANNED:
                for part in scanned_decoder.decode(record.payload):
                    self._links.fold(part.ledger, part.scanned_to)
            case Kind.EXPIRED:
                self._retention.fold(expired_decoder.decode(record.payload))
            case Kind.REJECTED:
                self._intake.judge.fold(ledger, rejected_decoder.decode(record.payload))
            case Kind.RESOLVED | Kind.GEO_DURABLE:
                self._fold_hidden(record)
            case Kind.SNAPSHOT:
                self._fold_snapshot(snapshot_decoder.decode(record.payload))

    def _fold_hidden(self, record: Record) -> None:
        if record.kind is Kind.GEO_DURABLE:
            self._ledgers.geo.fold(released_decoder.decode(record.payload))
            return
        for outcome in resolved_decoder.decode(record.payload):
            self._ledgers.withheld.resolve(outcome)

    def _fold_snapshot(self, snapshot: Snapshot) -> None:
        self._intake.dedup.restore(snapshot.producers)
        self._intake.seen_ids.restore(snapshot.seen)
        self._ledgers.withheld.restore(snapshot.withheld)
        self._ledgers.geo.restore(snapshot.geo)
        self._groups.deleted(snapshot.deleted)
        for group in snapshot.groups:
            self._groups.group(GroupRecord(group.spec), group)
        self._retention.losses.restore(snapshot.expired)
        for link in snapshot.links:
            self._links.fold(link.ledger, link.scanned_to)
