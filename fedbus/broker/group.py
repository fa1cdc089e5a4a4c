"""Groups: durable subscriptions with members, acknowledgements and redelivery, at one instance.

An instance hands its own ledgers' events to the members attached to it. Settlement becomes durable as SETTLED records
in the ledger being written (protocol rule 14). A group that is at home in another region has no members here: what is
settled there is kept, and the cursor follows it (rule 13).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.deliveries import MILLISECOND
from fedbus.broker.dispatch import Dispatcher
from fedbus.broker.effects import Effect, Surveyed
from fedbus.broker.expiry import unsettled_in
from fedbus.broker.feed import Feeds
from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.handover import Handovers
from fedbus.broker.in_flight import Portion
from fedbus.broker.ledger import Ledgers
from fedbus.broker.member import Member
from fedbus.broker.state import GroupState


class Group:
    """One group at one instance. ``recorded``: the number of the record that made it (-1: an earlier incarnation's).

    ``here``: whether this region is its home, so that it has members and is dispatched.
    """

    def __init__(
        self, spec: GroupSpec, cursor: Cursor, window_events: int, feeds: Feeds, handovers: Handovers, *, here: bool
    ) -> None:
        self.spec = spec
        self.here = here
        self.recorded = -1
        self.order_breaks = 0  # slots on whose old owner was not waited any longer
        self.dispatcher = Dispatcher(spec, cursor, window_events, feeds, handovers)
        self.cursor = cursor
        self.members = self.dispatcher.members
        self.settlement = self.dispatcher.settlement
        self.deliveries = self.dispatcher.deliveries
        self.dead_letters = self.dispatcher.dead_letters
        self.barrier = self.dispatcher.barrier

    def change(self, spec: GroupSpec) -> None:
        """Other options (or back again); all else is as it was."""
        self.spec = spec
        self.deliveries.options = spec.options

    def pump(self, ledgers: Ledgers, effects: list[Effect], now_ns: int) -> int:
        """Dispatch what members have credit for; returns how many events."""
        sent = self.dispatcher.pump(ledgers, effects, now_ns)
        if self.deliveries.condemned:
            self.dead_letters.pump(self.spec, ledgers, now_ns)
        return sent

    # -- members -------------------------------------------------------------------------------------------------------

    def join(self, member: Member) -> None:
        """Another member."""
        self.members.add(member)

    def leave(self, session: bytes, number: int, *, politely: bool) -> None:
        """A member's session or subscription ended: what it held goes back, ahead of what is newer."""
        member = self.members.remove(session, number)
        if member is not None:
            self.deliveries.leave(member, politely=politely)

    def settle(self, member: Member | None, message: p.Ack | p.Nack | p.Extend, now_ns: int) -> None:
        """A member acknowledges, gives back, or asks for more time."""
        if member is not None:
            member.heard_ns = now_ns
            self.members.silence(member, silent=False)
        if isinstance(message, p.Ack):
            self.settlement.ack(message.settled)
            self.deliveries.in_flight.settled()
        elif isinstance(message, p.Nack):
            self.deliveries.give_back(message.settled, now_ns, message.delay_ms, message.dead_letter)
        else:
            due_ns = now_ns + self.spec.options.ack_deadline_ms * MILLISECOND
            self.deliveries.in_flight.extend(message.settled, due_ns)

    # -- what is durable of it -----------------------------------------------------------------------------------------

    def state(self, ledgers: Ledgers) -> GroupState:
        """Its part of a snapshot."""
        return GroupState(self.spec, self.settlement.state(), self.low(ledgers))

    def low(self, ledgers: Ledgers) -> dict[str, int]:
        """Per local ledger the offset below which everything is settled."""
        low = {name: self.cursor.position(name, ledgers) for name in ledgers.names()}
        for portion in self.deliveries:
            if portion.first_offset < low.get(portion.ledger, 0) and self.deliveries.unsettled(portion):
                low[portion.ledger] = portion.first_offset
        return low

    def restore(self, settled: Iterable[p.Settled], low: dict[str, int] | None = None) -> None:
        """Fold acknowledgements (and scan positions) of an earlier incarnation in."""
        self.settlement.restore(settled)
        self.cursor.positions.update(low or {})

    def adopt(self, names: Iterable[str], ledgers: Ledgers, ends: dict[str, int]) -> None:
        """Scan these ledgers too; acknowledgements of deliveries made elsewhere up to these ends are still taken."""
        begin = Cursor.of_group(self.spec, ledgers)
        for name in names:
            self.cursor.positions.setdefault(name, begin.positions.get(name, 0))
        self.settlement.dispatched_before(ends)

    # -- when a ledger expires -----------------------------------------------------------------------------------------

    def unsettled_in(self, ledger: Surveyed, end: int) -> tuple[list[p.Settled], int]:
        """What it loses if this ledger (ending at ``end``) is dropped: offsets by origin, how many events at most.

        Away from its home nothing: there it is dispatched, and there it may be lost.
        """
        if not self.here:
            return [], 0
        return unsettled_in(ledger, end, self.spec, self.cursor, self.settlement, self.deliveries)

    def expire(self, ledger: str, end: int) -> None:
        """A local ledger is no longer served: nothing of it is waited for or delivered any more."""
        if self.here:
            self.settlement.learn([p.Settled(ledger, [(0, end)])], tell=True)
            for portion in self.deliveries:
                if portion.ledger == ledger:
                    self.settlement.learn([p.Settled(portion.origin_ledger, portion.ranges)], tell=True)
        self.deliveries.drop(ledger)
        self.cursor.positions.pop(ledger, None)

    def let_go(self, ledger: str) -> None:
        """A local ledger is served elsewhere: what is not settled of it will be delivered there."""
        for portion in self.deliveries:
            if portion.ledger == ledger:
                self.settlement.withdraw(portion.origin_ledger, portion.ranges)
        self.deliveries.drop(ledger)
        self.cursor.positions.pop(ledger, None)

    # -- what there is to say of it ------------------------------------------------------------------------------------

    def first_tries(self) -> Iterator[Portion]:
        """What is in flight, or waits for its turn."""
        self.deliveries.in_flight.clear()
        yield from self.deliveries.in_flight
        yield from self.deliveries.queued

    def backlog(self, ledgers: Ledgers) -> int:
        """Confirmed events not yet settled, at most (events of other topics ahead of the scan are counted too)."""
        unscanned = sum(max(0, ledgers.end(name) - at) for name, at in self.cursor.positions.items())
        return self.settlement.outstanding + unscanned
