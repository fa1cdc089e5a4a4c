"""What one group has dispatched and not settled, by what it waits for.

*In flight* is with a member; *queued* is to be delivered as soon as it can be (``broker/queued_portions.py``);
*delayed* comes again after a while; *condemned* was delivered often enough and goes to the dead-letter topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from fedbus.broker import protocol as p
from fedbus.broker.in_flight import InFlight, Portion
from fedbus.broker.member import Member
from fedbus.broker.queued_portions import QueuedPortions
from fedbus.broker.settlement import Settlement
from fedbus.ranges import Range

MILLISECOND = 1_000_000
NACKED, EXPIRED, LOST = "nack", "expired", "session_lost"
MAX_DOUBLINGS = 40


class Deliveries:
    """One group's portions. ``redelivered``: events given back so far."""

    def __init__(self, settlement: Settlement, options: p.GroupOptions) -> None:
        self.options = options
        self.redelivered = 0
        self.condemned: deque[Portion] = deque()
        self.buried: deque[Portion] = deque()  # written to the dead-letter topic, not yet durably
        self.in_flight = InFlight(settlement)
        self.queued = QueuedPortions(settlement)
        self._settlement = settlement
        self._delayed: list[tuple[int, int, Portion]] = []  # heap by time
        self._ties = count()
        self._turns = count()

    def __iter__(self) -> Iterator[Portion]:
        yield from self.in_flight
        yield from self.queued
        for _, _, portion in self._delayed:
            yield portion
        yield from self.condemned
        yield from self.buried

    def next_turn(self) -> int:
        """The turn of a portion dispatched for the first time."""
        return next(self._turns)

    def unsettled(self, portion: Portion) -> list[Range]:
        """Of its events those that are not settled."""
        return self._settlement.unsettled(portion.origin_ledger, portion.ranges)

    # -- back from members ---------------------------------------------------------------------------------------------

    def expire(self, now_ns: int, *, at_once: bool) -> list[tuple[Member, int]]:
        """Deliveries whose deadline has passed go back, delayed ones become ready; returns whose deadlines passed.

        ``at_once``: without a back-off, ahead of what is newer: another member may take their keys from now on.
        """
        due = self.in_flight.take_due(now_ns)
        expired = [(each.member, each.due_ns) for each in due if each.member is not None and self.unsettled(each)]
        if due and at_once:
            self.queued.ready([portion for portion in due if self._again(portion, EXPIRED)])
        else:
            self._failed(due, EXPIRED, now_ns)
        while self._delayed and self._delayed[0][0] <= now_ns:
            self.queued.waiting.appendleft(heappop(self._delayed)[-1])
        return expired

    def leave(self, member: Member, *, politely: bool) -> None:
        """A member is gone: what it held goes back, ahead of what is newer.

        One whose session was lost may have perished of an event: that counts as a delivery without success.
        """
        self.queued.regroup()
        for portion in reversed(self.in_flight.take_of(member)):
            if self._again(portion, LOST, counts=not politely):
                self.queued.waiting.appendleft(portion)

    def give_back(self, settled: Iterable[p.Settled], now_ns: int, delay_ms: int, dead_letter: str) -> None:
        """Deliver these again after the delay (-1: the back-off), or never."""
        for portion in self.in_flight.cut(settled):
            if dead_letter:
                self._condemn(portion, dead_letter)
            else:
                self._failed([portion], NACKED, now_ns, delay_ms)

    def _failed(self, portions: Iterable[Portion], reason: str, now_ns: int, delay_ms: int = -1) -> None:
        for portion in portions:
            delivery = portion.delivery
            if self._again(portion, reason):
                due_ns = now_ns + (self.backoff_ms(delivery) if delay_ms < 0 else delay_ms) * MILLISECOND
                heappush(self._delayed, (due_ns, next(self._ties), portion))

    def backoff_ms(self, delivery: int) -> int:
        """How long after this many deliveries the next one waits."""
        options = self.options
        return min(options.backoff_max_ms, options.backoff_min_ms << min(delivery - 1, MAX_DOUBLINGS))

    def _again(self, portion: Portion, reason: str, *, counts: bool = True) -> bool:
        """Whether it is to be delivered again."""
        portion.keep(self.unsettled(portion))
        portion.member = None
        if not portion.ranges:
            return False
        if counts and 0 < self.options.max_deliveries <= portion.delivery:
            self._condemn(portion, reason)
            return False
        portion.delivery += 1
        self.redelivered += portion.count
        return True

    def _condemn(self, portion: Portion, reason: str) -> None:
        portion.keep(self.unsettled(portion))
        portion.member = None
        portion.reason = reason
        if portion.ranges:
            self.condemned.append(portion)

    def drop(self, ledger: str) -> None:
        """Forget all portions of this local ledger."""
        self.in_flight.take_from(ledger)
        self.queued.drop(ledger)
        self.condemned = deque(portion for portion in self.condemned if portion.ledger != ledger)
        self._delayed = [each for each in self._delayed if each[-1].ledger != ledger]
        heapify(self._delayed)
