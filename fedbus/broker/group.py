"""Groups: durable subscriptions with members, acknowledgements and redelivery, at one instance.

An instance hands its own ledgers' events to the members attached to it. What was dispatched and is not settled is either
*in flight* (with a deadline) or *waiting* for credit, time or a member. Settlement becomes durable as SETTLED records in
the ledger being written (protocol rule 14).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from fedbus.broker import protocol as p
from fedbus.broker.cursor import Cursor
from fedbus.broker.effects import Effect, Send
from fedbus.broker.feed import Feed
from fedbus.broker.ledger import Ledgers
from fedbus.broker.member import Member, Members
from fedbus.broker.settlement import Settlement
from fedbus.broker.state import GroupSettled, GroupSpec, GroupState
from fedbus.broker.stored import Stored
from fedbus.ranges import Range, RangeSet
from fedbus.topic import FilterSet

MILLISECOND = 1_000_000


class Portion(msgspec.Struct):
    """Some events of one stored batch. ``due_ns``: the deadline in flight, the earliest time when waiting."""

    ledger: str
    first_offset: int
    origin_ledger: str
    ranges: list[Range]
    delivery: int
    due_ns: int
    member: Member | None = None


class Group:
    """One group at one instance."""

    def __init__(self, spec: GroupSpec, cursor: Cursor, window_events: int, scan: Feed, again: Feed) -> None:
        self.spec = spec
        self.members = Members()
        self.settlement = Settlement(cursor.seen)
        self.redelivered = 0
        self._filters = FilterSet(spec.filters)
        self._cursor = cursor
        self._window_events = window_events
        self._scan_feed = scan
        self._again_feed = again
        self._waiting: deque[Portion] = deque()
        self._in_flight: deque[Portion] = deque()

    # -- settling ------------------------------------------------------------------------------------------------------

    def ack(self, settled: Iterable[p.Settled]) -> None:
        """Acknowledge; the deliveries at the front that are done with need no deadline any more."""
        self.settlement.ack(settled)
        while self._in_flight and not self._unsettled(self._in_flight[0]):
            self._in_flight.popleft()

    def give_back(self, settled: Iterable[p.Settled], now_ns: int, delay_ms: int) -> None:
        """Nack: deliver these again after the delay."""
        for portion in self._extract(settled):
            self._wait(portion, now_ns + delay_ms * MILLISECOND)

    def extend(self, settled: Iterable[p.Settled], now_ns: int) -> None:
        """Start the deadline of these anew."""
        for portion in self._extract(settled):
            portion.due_ns = now_ns + self.spec.ack_deadline_ms * MILLISECOND
            self._in_flight.append(portion)

    def leave(self, session: bytes, number: int, now_ns: int) -> None:
        """A member's session or subscription ended: what it held goes back, ahead of what is newer."""
        member = self.members.remove(session, number)
        if member is not None:
            self._give_up([portion for portion in self._in_flight if portion.member is member], now_ns)

    def expire(self, now_ns: int) -> None:
        """Deliveries whose deadline has passed go back."""
        self._give_up([portion for portion in self._in_flight if portion.due_ns <= now_ns], now_ns)

    def _give_up(self, portions: list[Portion], now_ns: int) -> None:
        if portions:
            given_up = set(map(id, portions))
            self._in_flight = deque(portion for portion in self._in_flight if id(portion) not in given_up)
            for portion in reversed(portions):
                self._wait(portion, now_ns, front=True)

    def _wait(self, portion: Portion, due_ns: int, *, front: bool = False) -> None:
        portion.ranges = self._unsettled(portion)
        if portion.ranges:
            portion.delivery += 1
            portion.due_ns = due_ns
            portion.member = None
            self.redelivered += sum(end - start for start, end in portion.ranges)
            (self._waiting.appendleft if front else self._waiting.append)(portion)

    def _extract(self, settled: Iterable[p.Settled]) -> list[Portion]:
        """Cut these ranges out of the deliveries in flight."""
        found: list[Portion] = []
        for part in settled:
            asked = RangeSet(part.ranges)
            for portion in [each for each in self._in_flight if each.origin_ledger == part.ledger]:
                cut = [piece for start, end in portion.ranges for piece in asked.overlap(start, end)]
                if cut:
                    rest = RangeSet(cut)
                    portion.ranges = [gap for start, end in portion.ranges for gap in rest.gaps(start, end)]
                    found.append(msgspec.structs.replace(portion, ranges=cut))
        return found

    def _unsettled(self, portion: Portion) -> list[Range]:
        return self.settlement.unsettled(portion.origin_ledger, portion.ranges)

    # -- dispatching ---------------------------------------------------------------------------------------------------

    def pump(self, ledgers: Ledgers, effects: list[Effect], now_ns: int) -> int:
        """Dispatch what members have credit for: first what waits, then what is new; returns how many events."""
        before = self.members.sent
        if self._dispatch_waiting(effects, now_ns):
            for ledger in self._cursor.behind(ledgers):
                self._scan(ledger, ledgers, effects, now_ns)
        return self.members.sent - before

    def _dispatch_waiting(self, effects: list[Effect], now_ns: int) -> bool:
        """Returns whether newer events may be dispatched: not while older ones still have to be read from disk."""
        if not self._waiting or not self.members.credit:
            return True
        kept: deque[Portion] = deque()
        in_memory = True
        while self._waiting:
            portion = self._waiting.popleft()
            portion.ranges = self._unsettled(portion)
            if not portion.ranges:
                continue
            if portion.due_ns > now_ns or not in_memory or not self.members.credit:
                kept.append(portion)
                continue
            at = (portion.ledger, portion.first_offset)
            stored = self._again_feed.at(*at)
            if stored is None and self._again_feed.blank_until(*at) == portion.first_offset:
                in_memory = False
                kept.append(portion)
            elif stored is None or stored.first_offset > portion.first_offset:
                # Its batch has become unreadable; the reader has counted and reported it.
                self.ack([p.Settled(portion.origin_ledger, portion.ranges)])
            else:
                left = self._allot(stored, stored.places(portion.ranges), portion.delivery, effects, now_ns)
                if left:
                    portion.ranges = stored.ranges(left)
                    kept.append(portion)
        self._waiting = kept
        return in_memory

    def _scan(self, ledger: str, ledgers: Ledgers, effects: list[Effect], now_ns: int) -> None:
        end = ledgers.end(ledger)
        positions = self._cursor.positions
        while self.members.credit and self.settlement.outstanding < self._window_events and positions[ledger] < end:
            position = positions[ledger]
            stored = self._scan_feed.at(ledger, position)
            if stored is None:
                positions[ledger] = self._scan_feed.blank_until(ledger, position)
                if positions[ledger] == position:
                    return
                continue
            places = self.settlement.dispatching(stored, self._cursor.wanted(stored, self._filters))
            positions[ledger] = stored.next_offset
            left = self._allot(stored, places, 1, effects, now_ns) if places else ()
            if left:
                ranges = stored.ranges(left)
                self._waiting.append(Portion(ledger, stored.first_offset, stored.origin_ledger, ranges, 1, now_ns))

    def _allot(
        self, stored: Stored, places: Sequence[int], delivery: int, effects: list[Effect], now_ns: int
    ) -> Sequence[int]:
        """Send places to members as far as their credit goes; returns the places that found nobody."""
        due_ns = now_ns + self.spec.ack_deadline_ms * MILLISECOND
        origin = stored.origin_ledger
        allotted, left = self.members.allot(stored, places)
        for member, taken in allotted:
            batch, ranges = stored.batch.select(taken), stored.ranges(taken)
            deliver = p.Deliver(member.subscription, origin, ranges, stored.offsets[taken[-1]] + 1, delivery)
            effects.append(Send(member.session, deliver, (batch.index_bytes, batch.payload)))
            in_flight = Portion(stored.ledger, stored.first_offset, origin, ranges, delivery, due_ns, member)
            self._in_flight.append(in_flight)
        return left

    # -- state ---------------------------------------------------------------------------------------------------------

    def take_dirty(self) -> GroupSettled | None:
        """Acknowledgements not yet handed to the ledger, once."""
        settled = self.settlement.take_dirty()
        return GroupSettled(self.spec.name, settled) if settled else None

    def state(self, ledgers: Ledgers) -> GroupState:
        """Its part of a snapshot."""
        low = {name: self._cursor.position(name, ledgers) for name in ledgers.names()}
        for portion in (*self._waiting, *self._in_flight):
            if portion.first_offset < low[portion.ledger] and self._unsettled(portion):
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
