"""Dispatch: from one instance's ledgers to the members of one group, as far as they have credit.

First what was dispatched before and is to go out again, then what is new; a member without credit, or a key slot that
is barred, holds up its own keys only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedbus.broker import protocol as p
from fedbus.broker.barrier import Barrier
from fedbus.broker.cursor import Cursor
from fedbus.broker.dead_letter import DeadLetters
from fedbus.broker.deliveries import MILLISECOND, Deliveries
from fedbus.broker.effects import Effect, Send
from fedbus.broker.feed import Feed, Feeds
from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.handover import Handovers
from fedbus.broker.in_flight import Portion
from fedbus.broker.ledger import Ledgers
from fedbus.broker.member import Member
from fedbus.broker.member_slots import Share
from fedbus.broker.members import Members
from fedbus.broker.settlement import Settlement
from fedbus.broker.stored import Stored
from fedbus.topic import FilterSet


class Dispatcher:
    """One group's. It has three accesses to batches: new ones, those dispatched before, those to be dead letters."""

    def __init__(self, spec: GroupSpec, cursor: Cursor, window_events: int, feeds: Feeds, handovers: Handovers) -> None:
        self.cursor = cursor
        self.members = Members()
        self.settlement = Settlement(spec.filters, cursor.seen)
        self.deliveries = Deliveries(self.settlement, spec.options)
        self._queued = self.deliveries.queued
        self.dead_letters = DeadLetters(self.settlement, self.deliveries, Feed(feeds))
        self.barrier = Barrier(spec.name, self.members, self.deliveries, handovers)
        self._resolved = 0  # of the hidden batches, as far as this group has seen
        self._filters = FilterSet(spec.filters)
        self._window_events = window_events
        self._scan_feed = Feed(feeds)
        self._again_feed = Feed(feeds)

    @property
    def deadline_ns(self) -> int:
        """How long a delivery may take."""
        return self.deliveries.options.ack_deadline_ms * MILLISECOND

    def pump(self, ledgers: Ledgers, effects: list[Effect], now_ns: int) -> int:
        """Dispatch what members have credit for: first what waits, then what is new; returns how many events."""
        for member, due_ns in self.deliveries.expire(now_ns, at_once=len(self.members) > 1):
            if member.heard_ns <= due_ns - self.deadline_ns:
                self.members.silence(member, silent=True)
        before = self.members.sent
        if self.deliveries.options.paused:
            return 0
        self.barrier.refresh()
        if self._resolved != ledgers.hidden.changes:
            self._resolved = ledgers.hidden.changes
            self._queued.release(ledgers.hidden)
        for member in self.members:
            self.deliveries.in_flight.clear_for(member)
            self._dispatch_parked(member, effects, now_ns)
        if self.members.room and self._dispatch_waiting(effects, now_ns):
            for ledger in self.cursor.behind(ledgers):
                self._scan(ledger, ledgers, effects, now_ns)
        return self.members.sent - before

    def pass_settled(self, ledgers: Ledgers, most: int) -> int:
        """Nothing is dispatched here: scan on over batches of which all that is wanted is settled; returns how many."""
        positions, settlement = self.cursor.positions, self.settlement
        left = most
        for ledger in self.cursor.behind(ledgers):
            while left > 0 and positions[ledger] < ledgers.end(ledger):
                position = positions[ledger]
                stored = self._scan_feed.at(ledger, position)
                if stored is None:
                    positions[ledger] = self._scan_feed.blank_until(ledger, position)
                    if positions[ledger] == position:
                        break
                    continue
                places = self.cursor.wanted(stored, self._filters)
                if places and not settlement.is_settled(stored.origin_ledger, stored.ranges(places)):
                    break
                settlement.dispatching(stored, ())
                positions[ledger] = stored.next_offset
                left -= 1
        return most - left

    def _dispatch_parked(self, member: Member, effects: list[Effect], now_ns: int) -> None:
        while member.room and (portion := self._queued.unpark(member)) is not None:
            stored = self._stored(portion)
            if stored is None:
                if portion.ranges:  # still to be read from disk
                    self._queued.park(member, portion, front=True)
                    return
                continue
            taken, left = self.members.to_one(member, stored.places(portion.ranges))
            self._send(stored, taken, portion, effects, now_ns)
            if left:
                self._queued.park(member, portion.of_ranges(stored.ranges(left)), front=True)

    def _dispatch_waiting(self, effects: list[Effect], now_ns: int) -> bool:
        """Returns whether newer events may be dispatched: not while older ones still have to be read from disk."""
        waiting = self._queued.waiting
        while waiting and self.members.room:
            portion = waiting.popleft()
            stored = self._stored(portion)
            if stored is None:
                if portion.ranges:
                    waiting.appendleft(portion)
                    return False
                continue
            left = self._allot(stored, stored.places(portion.ranges), portion, effects, now_ns)
            if left is not None:
                waiting.appendleft(left)
        return not waiting

    def _stored(self, portion: Portion) -> Stored | None:
        """The batch of a portion; ``None`` if it is still to be read, or (an empty portion) nothing is left."""
        portion.keep(self.deliveries.unsettled(portion))
        if not portion.ranges:
            return None
        at = (portion.ledger, portion.first_offset)
        stored = self._again_feed.at(*at)
        if stored is None and self._again_feed.blank_until(*at) == portion.first_offset:
            return None
        if stored is None or stored.first_offset > portion.first_offset:
            # Its batch has become unreadable; the reader has counted and reported it.
            self.settlement.ack([p.Settled(portion.origin_ledger, portion.ranges)])
            portion.keep([])
            return None
        return stored

    def _scan(self, ledger: str, ledgers: Ledgers, effects: list[Effect], now_ns: int) -> None:
        end = ledgers.end(ledger)
        positions = self.cursor.positions
        while self.members.room and self.settlement.outstanding < self._window_events and positions[ledger] < end:
            position = positions[ledger]
            withheld = ledgers.hidden.matters and bool(ledgers.hidden.until(ledger, position))
            stored = self._scan_feed.at(ledger, position, withheld=withheld)
            readable = self._scan_feed.blank_until(ledger, position) if stored is None else stored.first_offset
            self.settlement.nothing_at(ledger, position, readable)
            if stored is None:
                positions[ledger] = readable
                if readable == position:
                    return
                continue
            places = self.settlement.dispatching(stored, self.cursor.wanted(stored, self._filters))
            positions[ledger] = stored.next_offset
            if places:
                portion = Portion.of(stored, places, self.deliveries.next_turn())
                if withheld:
                    self._queued.withheld.add(portion)
                    continue
                left = self._allot(stored, places, portion, effects, now_ns)
                if left is not None:
                    self._queued.waiting.append(left)

    def _allot(
        self, stored: Stored, places: Sequence[int], portion: Portion, effects: list[Effect], now_ns: int
    ) -> Portion | None:
        """Send, park or bar a portion's places, as far as members have credit; returns what found nobody."""
        barred = self.barrier.bars(stored) | self._queued.withheld.slots_before(portion.turn)
        allotment = self.members.allot(stored, places, barred)
        self._send(stored, allotment.taken, portion, effects, now_ns)
        for member, parked in allotment.parked:
            self._queued.park(member, portion.of_ranges(stored.ranges(parked)))
        if allotment.barred:
            self._queued.bar(portion.of_ranges(stored.ranges(allotment.barred)))
        return portion.of_ranges(stored.ranges(allotment.left)) if allotment.left else None

    def _send(
        self, stored: Stored, shares: Iterable[Share], portion: Portion, effects: list[Effect], now_ns: int
    ) -> None:
        for member, taken in shares:
            batch, ranges = stored.batch.select(taken), stored.ranges(taken)
            after = stored.offsets[taken[-1]] + 1
            deliver = p.Deliver(
                member.subscription, portion.origin_ledger, ranges, after, portion.delivery, flags=stored.flags
            )
            effects.append(Send(member.session, deliver, (batch.index_bytes, batch.payload)))
            piece = portion.of_ranges(ranges)
            piece.due_ns = now_ns + self.deadline_ns
            piece.size_bytes = len(batch.payload)
            piece.member = member
            self.deliveries.in_flight.send(piece)
