"""Dispatch: from one instance's ledgers to the members of one group, as far as they have credit.

First what was dispatched before and is to go out again, then what is new; a member without credit holds up its own keys
only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.deliveries import Deliveries
from fedbus.broker.effects import Effect, Send
from fedbus.broker.feed import Feed
from fedbus.broker.in_flight import Portion
from fedbus.broker.ledger import Ledgers
from fedbus.broker.member import Member, Members, Share
from fedbus.broker.settlement import Settlement
from fedbus.broker.stored import Stored
from fedbus.topic import FilterSet

MILLISECOND = 1_000_000


class Dispatcher:
    """One group's. ``scan`` and ``again``: its access to new batches, and to those dispatched before."""

    def __init__(
        self, filters: Sequence[str], deadline_ms: int, cursor: Cursor, window_events: int, scan: Feed, again: Feed
    ) -> None:
        self.cursor = cursor
        self.members = Members()
        self.settlement = Settlement(filters, cursor.seen)
        self.deliveries = Deliveries(self.settlement)
        self._filters = FilterSet(filters)
        self._deadline_ns = deadline_ms * MILLISECOND
        self._window_events = window_events
        self._scan_feed = scan
        self._again_feed = again

    def due_ns(self, now_ns: int) -> int:
        """The deadline of what is sent now."""
        return now_ns + self._deadline_ns

    def pump(self, ledgers: Ledgers, effects: list[Effect], now_ns: int) -> int:
        """Dispatch what members have credit for: first what waits, then what is new; returns how many events."""
        self.deliveries.expire(now_ns)
        before = self.members.sent
        for member in self.members:
            self.deliveries.in_flight.clear_for(member)
            self._dispatch_parked(member, effects, now_ns)
        if self.members.room and self._dispatch_waiting(effects, now_ns):
            for ledger in self.cursor.behind(ledgers):
                self._scan(ledger, ledgers, effects, now_ns)
        return self.members.sent - before

    def _dispatch_parked(self, member: Member, effects: list[Effect], now_ns: int) -> None:
        while member.room and (portion := self.deliveries.unpark(member)) is not None:
            stored = self._stored(portion)
            if stored is None:
                if portion.ranges:  # still to be read from disk
                    self.deliveries.park(member, portion, front=True)
                    return
                continue
            taken, left = self.members.to_one(member, stored.places(portion.ranges))
            self._send(stored, taken, portion, effects, now_ns)
            if left:
                portion.ranges = stored.ranges(left)
                self.deliveries.park(member, portion, front=True)

    def _dispatch_waiting(self, effects: list[Effect], now_ns: int) -> bool:
        """Returns whether newer events may be dispatched: not while older ones still have to be read from disk."""
        waiting = self.deliveries.waiting
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
        portion.ranges = self.deliveries.unsettled(portion)
        if not portion.ranges:
            return None
        at = (portion.ledger, portion.first_offset)
        stored = self._again_feed.at(*at)
        if stored is None and self._again_feed.blank_until(*at) == portion.first_offset:
            return None
        if stored is None or stored.first_offset > portion.first_offset:
            # Its batch has become unreadable; the reader has counted and reported it.
            self.settlement.ack([p.Settled(portion.origin_ledger, portion.ranges)])
            portion.ranges = []
            return None
        return stored

    def _scan(self, ledger: str, ledgers: Ledgers, effects: list[Effect], now_ns: int) -> None:
        end = ledgers.end(ledger)
        positions = self.cursor.positions
        while self.members.room and self.settlement.outstanding < self._window_events and positions[ledger] < end:
            position = positions[ledger]
            stored = self._scan_feed.at(ledger, position)
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
                turn = self.deliveries.next_turn()
                portion = Portion(ledger, stored.first_offset, stored.origin_ledger, stored.ranges(places), 1, turn)
                left = self._allot(stored, places, portion, effects, now_ns)
                if left is not None:
                    self.deliveries.waiting.append(left)

    def _allot(
        self, stored: Stored, places: Sequence[int], portion: Portion, effects: list[Effect], now_ns: int
    ) -> Portion | None:
        """Send or park a portion's places, as far as members have credit; returns what found nobody."""
        allotment = self.members.allot(stored, places)
        self._send(stored, allotment.taken, portion, effects, now_ns)
        for member, parked in allotment.parked:
            self.deliveries.park(member, msgspec.structs.replace(portion, ranges=stored.ranges(parked)))
        return msgspec.structs.replace(portion, ranges=stored.ranges(allotment.left)) if allotment.left else None

    def _send(
        self, stored: Stored, shares: Iterable[Share], portion: Portion, effects: list[Effect], now_ns: int
    ) -> None:
        for member, taken in shares:
            batch, ranges = stored.batch.select(taken), stored.ranges(taken)
            after = stored.offsets[taken[-1]] + 1
            deliver = p.Deliver(member.subscription, portion.origin_ledger, ranges, after, portion.delivery)
            effects.append(Send(member.session, deliver, (batch.index_bytes, batch.payload)))
            piece = msgspec.structs.replace(
                portion, ranges=ranges, due_ns=self.due_ns(now_ns), size_bytes=len(batch.payload), member=member
            )
            self.deliveries.in_flight.add(piece)
