"""A lane: the parcels of one bus instance, those waiting and those in flight, in their order.

Flow control: in flight are at most the batches and bytes which the instance grants a session. After a loss all that
was in flight goes back into the queue, before all later ones of its producer (rules 9, 10); a pause after an overload
holds the whole lane, so that what was refused does not end up behind what came later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from fedbus.broker import protocol as wire
from fedbus.client.connection import Connection
from fedbus.client.parcel import Parcel
from fedbus.client.turns import Turns
from fedbus.clock import Clock
from fedbus.limits import Limits
from fedbus.routing.router import Router

NS_PER_MS = 1_000_000
ANSWER_MS = 3000  # after so long without an answer on a living session a parcel is sent again (and deduplicated)

Answered = Callable[["Lane", Parcel, wire.FromInstance], None]


class Flight:
    """Parcels sent and not yet answered, by request; bounded by the instance's publish window.

    What waits for other regions has a window of its own, so that it does not hold up the rest.
    """

    def __init__(self) -> None:
        self._parcels: dict[int, Parcel] = {}
        self._bytes = [0, 0]  # of those that need this region alone, and of the others
        self._count = [0, 0]

    def has_room(self, parcel: Parcel, limits: Limits) -> bool:
        """Whether the parcel may be sent; one always may."""
        if not self._count[parcel.geo]:
            return True
        bytes_left = limits.publish_window_bytes - self._bytes[parcel.geo]
        return parcel.size_bytes <= bytes_left and self._count[parcel.geo] < limits.publish_window_batches

    def next_in(self, queue: Sequence[Parcel], first: int | None, limits: Limits) -> int | None:
        """The place of the next parcel for which there is room: the ``first``, or the first of the other kind."""
        if first is None or self.has_room(queue[first], limits):
            return first
        full = queue[first].geo
        other = next((at for at, parcel in enumerate(queue) if parcel.geo != full), None) if not first else None
        return other if other is not None and self.has_room(queue[other], limits) else None

    def add(self, request: int, parcel: Parcel) -> None:
        """It was sent."""
        self._parcels[request] = parcel
        self._bytes[parcel.geo] += parcel.size_bytes
        self._count[parcel.geo] += 1

    def land(self, request: int) -> Parcel:
        """It was answered, or is given up."""
        parcel = self._parcels.pop(request)
        self._bytes[parcel.geo] -= parcel.size_bytes
        self._count[parcel.geo] -= 1
        return parcel

    def all(self) -> list[tuple[int, Parcel]]:
        """In the order in which they were sent."""
        return list(self._parcels.items())

    def oldest(self) -> Parcel | None:
        """The one sent first, of those that need this region alone."""
        return next((parcel for parcel in self._parcels.values() if not parcel.geo), None)


class Lane:
    """The way to one instance.

    ``given_up``: whom nobody waits for now; ``turns``: what has to wait for its turn;
    ``answered`` is told what comes back.
    """

    def __init__(
        self,
        instance: str,
        connection: Connection,
        router: Router,
        given_up: set[str],
        clock: Clock,
        turns: Turns,
        answered: Answered,
    ) -> None:
        self.instance = instance
        self.connection = connection
        self.queue: deque[Parcel] = deque()
        self._turns = turns
        self.failing_since_ns: int | None = clock.monotonic_ns()  # no session, or it takes nothing
        self.flight = Flight()
        self._router = router
        self._given_up = given_up
        self._clock = clock
        self._answered = answered
        self._pause: asyncio.TimerHandle | None = None

    @property
    def paused(self) -> bool:
        """Whether it waits after an overload."""
        return self._pause is not None

    def fail(self) -> None:
        """It has no session, or takes nothing: others are picked."""
        self._router.suspect(self.instance)
        if self.failing_since_ns is None:
            self.failing_since_ns = self._clock.monotonic_ns()

    def recover(self) -> None:
        """It takes parcels again."""
        self.failing_since_ns = None
        self._router.cleared(self.instance)

    def failing_for_ms(self) -> int:
        """How long it has been failing; -1: it is not."""
        since_ns = self.failing_since_ns
        return -1 if since_ns is None else (self._clock.monotonic_ns() - since_ns) // NS_PER_MS

    def pump(self) -> None:
        """Send what the window lets through."""
        welcome = self.connection.welcome
        # Without a ledger it takes nothing; and where a try may survive must have a name. A heartbeat tells it.
        while self.queue and welcome is not None and self.connection.ledger and not self.paused:
            place = self.flight.next_in(self.queue, self._turns.next_in(self), welcome.limits)
            if place is None or not self._send(self.queue[place]):
                return  # what is in flight has to land first; or the socket's queue is full: the next beat tries again
            del self.queue[place]

    def pause(self, delay_s: float, resume: Callable[[], None]) -> None:
        """Send nothing for a while, then call ``resume``."""
        if self._pause is not None:
            self._pause.cancel()

        def end() -> None:
            self._pause = None
            resume()

        self._pause = asyncio.get_running_loop().call_later(delay_s, end)

    def recall(self) -> None:
        """The session is gone: what was in flight is in the queue again, before what came later."""
        if self.flight.oldest() is not None:
            self._router.failed(self.instance, self._clock.monotonic_ns())
        for request, parcel in self.flight.all():
            self._landed(request)
            parcel.may_survive_in(parcel.last_ledger)
            self.enqueue(parcel)

    def enqueue(self, parcel: Parcel) -> None:
        """Queue a parcel in its place: before all later ones of its producer."""
        last = next((other for other in reversed(self.queue) if other.sender is parcel.sender), None)
        if last is None or not _later(last, parcel):  # several producers share a lane
            self.queue.append(parcel)
        else:
            self.queue.insert(next(n for n, other in enumerate(self.queue) if _later(other, parcel)), parcel)

    def take(self, wanted: Callable[[Parcel], bool]) -> list[Parcel]:
        """Take the waiting parcels that are ``wanted`` out, in order."""
        taken = [parcel for parcel in self.queue if wanted(parcel)]
        if taken:
            self.queue = deque(parcel for parcel in self.queue if not wanted(parcel))
        return taken

    def overdue(self, now_ns: int) -> list[Parcel]:
        """Give up what is past its deadline; send again what has waited long for its answer.

        The router is told how long the oldest has been waiting: that is evidence before the answer.
        """
        if (oldest := self.flight.oldest()) is not None:
            self._router.waiting(self.instance, (now_ns - oldest.sent_ns) / NS_PER_MS, now_ns)
        late = self.take(lambda parcel: parcel.deadline_ns <= now_ns)
        for request, parcel in self.flight.all():
            if parcel.deadline_ns <= now_ns or now_ns - parcel.sent_ns > ANSWER_MS * NS_PER_MS:
                self._landed(request)
                if not parcel.geo:
                    self._router.failed(self.instance, now_ns)
                parcel.may_survive_in(parcel.last_ledger)
                if parcel.deadline_ns <= now_ns:
                    late.append(parcel)
                else:
                    self.enqueue(parcel)
        return late

    def close(self) -> None:
        """Let the timer go."""
        if self._pause is not None:
            self._pause.cancel()

    def _send(self, parcel: Parcel) -> bool:
        request = self.connection.request(lambda message: self._answer(request, message))
        attempt, last_ledger = parcel.attempt, parcel.last_ledger
        ledger = self.connection.ledger
        parcel.goes_to(ledger)
        message = wire.Publish(
            request,
            parcel.sender.name,
            parcel.sequence,
            self._router.version_for(self.instance),
            sorted(self._given_up) if parcel.batch.keyed else [],
            parcel.tried_besides(ledger) if parcel.tried else [],
            parcel.attempt,
            parcel.sender.idempotent,
            parcel.order,
        )
        if not self.connection.send(message, parcel.batch.index_bytes, parcel.batch.payload):
            self.connection.forget(request)
            parcel.attempt, parcel.last_ledger = attempt, last_ledger
            return False
        parcel.generation = self._turns.generation
        parcel.sent_ns = self._clock.monotonic_ns()
        self.flight.add(request, parcel)
        if not parcel.geo:
            self._router.sent(self.instance)
        return True

    def _answer(self, request: int, message: wire.FromInstance) -> None:
        parcel = self._landed(request)
        if isinstance(message, wire.Published) and not parcel.geo:
            now_ns = self._clock.monotonic_ns()
            self._router.stored(self.instance, (now_ns - parcel.sent_ns) / NS_PER_MS, now_ns)
        self._answered(self, parcel, message)

    def _landed(self, request: int) -> Parcel:
        parcel = self.flight.land(request)
        self.connection.forget(request)
        if not parcel.geo:
            self._router.answered(self.instance)
        return parcel


def _later(other: Parcel, parcel: Parcel) -> bool:
    return other.sender is parcel.sender and other.order > parcel.order
