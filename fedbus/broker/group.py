"""Groups: durable subscriptions with members, acknowledgements and redelivery, at one instance.

An instance hands its own ledgers' events to the members attached to it. Settlement becomes durable as SETTLED records
in the ledger being written (protocol rule 14).
"""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.dispatch import MILLISECOND, Dispatcher
from fedbus.broker.effects import Effect
from fedbus.broker.feed import Feed
from fedbus.broker.ledger import Ledgers
from fedbus.broker.member import Member
from fedbus.broker.state import GroupSettled, GroupSpec, GroupState


class Group:
    """One group at one instance. ``recorded``: the number of the record that made it (-1: an earlier incarnation's)."""

    def __init__(self, spec: GroupSpec, cursor: Cursor, window_events: int, scan: Feed, again: Feed) -> None:
        self.spec = spec
        self.recorded = -1
        self._dispatcher = Dispatcher(spec.filters, spec.ack_deadline_ms, cursor, window_events, scan, again)
        self._cursor = cursor
        self.members = self._dispatcher.members
        self.settlement = self._dispatcher.settlement
        self.deliveries = self._dispatcher.deliveries

    def pump(self, ledgers: Ledgers, effects: list[Effect], now_ns: int) -> int:
        """Dispatch what members have credit for; returns how many events."""
        return self._dispatcher.pump(ledgers, effects, now_ns)

    def join(self, member: Member) -> None:
        """Another member."""
        self.members.add(member)
        self.deliveries.regroup()

    def leave(self, session: bytes, number: int) -> None:
        """A member's session or subscription ended: what it held goes back, ahead of what is newer."""
        member = self.members.remove(session, number)
        if member is not None:
            self.deliveries.leave(member)

    def ack(self, settled: Iterable[p.Settled]) -> None:
        """Acknowledge."""
        self.settlement.ack(settled)
        self.deliveries.in_flight.settled()

    def give_back(self, settled: Iterable[p.Settled], now_ns: int, delay_ms: int) -> None:
        """Nack: deliver these again after the delay."""
        self.deliveries.give_back(settled, now_ns + delay_ms * MILLISECOND)

    def extend(self, settled: Iterable[p.Settled], now_ns: int) -> None:
        """Start the deadline of these anew."""
        self.deliveries.extend(settled, self._dispatcher.due_ns(now_ns))

    def take_dirty(self) -> GroupSettled | None:
        """Acknowledgements not yet handed to the ledger, once."""
        settled = self.settlement.take_dirty()
        return GroupSettled(self.spec.name, settled) if settled else None

    def state(self, ledgers: Ledgers) -> GroupState:
        """Its part of a snapshot."""
        low = {name: self._cursor.position(name, ledgers) for name in ledgers.names()}
        for portion in self.deliveries:
            if portion.first_offset < low[portion.ledger] and self.deliveries.unsettled(portion):
                low[portion.ledger] = portion.first_offset
        return GroupState(self.spec, self.settlement.state(), low)

    def restore(self, settled: Iterable[p.Settled], low: dict[str, int] | None = None) -> None:
        """Fold acknowledgements (and scan positions) of an earlier incarnation in."""
        self.settlement.restore(settled)
        self._cursor.positions.update(low or {})

    def adopt(self, ledgers: Iterable[str], ends: dict[str, int]) -> None:
        """Scan these ledgers too; acknowledgements of deliveries made elsewhere up to these ends are still taken."""
        for name in ledgers:
            self._cursor.positions.setdefault(name, 0)
        self.settlement.dispatched_before(ends)

    def backlog(self, ledgers: Ledgers) -> int:
        """Confirmed events not yet settled, at most (events of other topics ahead of the scan are counted too)."""
        unscanned = sum(max(0, ledgers.end(name) - at) for name, at in self._cursor.positions.items())
        return self.settlement.outstanding + unscanned
