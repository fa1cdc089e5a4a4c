"""Recovery: the state of an instance as the fold of what its earlier incarnations recorded, and the snapshot of it."""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker.intake import Intake
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link import LinkTargets
from fedbus.broker.record import Kind, Record, encode_body
from fedbus.broker.state import Snapshot, group_decoder, scanned_decoder, settled_decoder, snapshot_decoder
from fedbus.broker.subscriptions import Subscriptions

States = Iterable[tuple[str, Record]]  # (ledger, record), from the newest snapshot on, in the order they were written


class FoldedState:
    """Everything an instance remembers beyond events, in the parts that hold it."""

    def __init__(self, ledgers: Ledgers, intake: Intake, subscriptions: Subscriptions, links: LinkTargets) -> None:
        self._ledgers = ledgers
        self._intake = intake
        self._groups = subscriptions.groups
        self._links = links.progress
        ledgers.snapshot = self.snapshot

    def snapshot(self) -> bytes:
        """The body of a SNAPSHOT record."""
        return encode_body(Snapshot(self._intake.dedup.snapshot(), self._groups.states(), self._links.state()))

    def recover(self, state: States, ledgers: Iterable[str], now_ns: int) -> None:
        """Fold ``state`` in, serve what is left to do in these ledgers, and record the outcome in one snapshot."""
        for ledger, record in state:
            self._fold(ledger, record)
        linked = {ledger: max(scanned.values(), default=0) for ledger, scanned in self._links.scanned.items()}
        ends = linked | {name: self._ledgers.end(name) for name in self._ledgers.closed}
        self._groups.restored(ledgers, ends)
        self._ledgers.snapshot_now(now_ns)

    def _fold(self, ledger: str, record: Record) -> None:
        match record.kind:
            case Kind.EVENTS:
                self._intake.fold(ledger, record)
                origin = record.events_meta().origin
                if origin is not None:
                    self._links.fold(origin.ledger, dict.fromkeys(origin.since, origin.scanned_to))
            case Kind.SETTLED:
                self._groups.restore_settled(settled_decoder.decode(record.payload))
            case Kind.GROUP:
                self._groups.restore_group(group_decoder.decode(record.payload).spec)
            case Kind.SCANNED:
                for part in scanned_decoder.decode(record.payload):
                    self._links.fold(part.ledger, part.scanned_to)
            case Kind.SNAPSHOT:
                self._fold_snapshot(snapshot_decoder.decode(record.payload))

    def _fold_snapshot(self, snapshot: Snapshot) -> None:
        self._intake.dedup.restore(snapshot.producers)
        for group in snapshot.groups:
            self._groups.restore_group(group.spec, group)
        for link in snapshot.links:
            self._links.fold(link.ledger, link.scanned_to)
