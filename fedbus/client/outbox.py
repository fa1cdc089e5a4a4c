"""The outbox: where every parcel of a bus goes, and where it goes next when that fails.

Keyless parcels leave a lost instance at once. Keyed ones wait for their owner for :data:`GRACE_MS` (it may be back, or
a new routing table may name another), then go to the successor and name the owner that did not answer (rules 10, 11).
Other regions are asked only after the same grace. A refusal holds a lane for as long as the instance asks. All of it
ends at the parcel's deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from fedbus.broker import protocol as wire
from fedbus.client.connection import Connection
from fedbus.client.lane import NS_PER_MS, Lane
from fedbus.client.parcel import Parcel
from fedbus.clock import Clock
from fedbus.errors import DrainingError, FedbusError, UnavailableError, WrongOwnerError, from_code
from fedbus.routing.router import Dice, Router
from fedbus.routing.table import InstanceRoute

GRACE_MS = 1000
BACKOFF_MIN_MS, BACKOFF_MAX_MS = 20, 2000
RETRY_DRAINING_MS = 250


class Outbox:
    """All lanes. ``generation`` grows whenever keys may have found another owner."""

    def __init__(
        self,
        router: Router,
        clock: Clock,
        random: Dice,
        connect: Callable[[InstanceRoute], Connection],
        refresh: Callable[[], None],
    ) -> None:
        self.generation = 0
        self.lanes: dict[str, Lane] = {}
        self.router = router
        self._clock = clock
        self._random = random
        self._connect = connect
        self._refresh = refresh
        self._homeless: deque[Parcel] = deque()  # bounded by the producers' windows
        self._given_up: frozenset[str] = frozenset()

    def owner(self, key_hash: int) -> str:
        """The instance that takes this key now; :class:`UnavailableError` if there is none."""
        return self.router.owner(key_hash, avoid=self._given_up).instance

    def lane(self, instance: str) -> Lane:
        """The lane to an instance of the table, opened when first asked for."""
        lane = self.lanes.get(instance)
        if lane is None:
            standing = self.router.standing(instance)
            assert standing is not None, f"the router named {instance}, which it does not know"
            connection = self._connect(standing.route)
            lane = self.lanes[instance] = Lane(instance, connection, self.router, self._clock, self._answered)
        return lane

    def post(self, parcel: Parcel, owner: str | None) -> None:
        """Send a parcel; ``owner`` is whom all its keys belong to in this generation, None: to be found."""
        if owner is None:
            self._place(parcel)
        else:
            lane = self.lane(owner)
            lane.enqueue(parcel)
            self._pump(lane)

    def ready(self, lane: Lane) -> None:
        """A session with the instance stands."""
        lane.failing_since_ns = None
        self.router.cleared(lane.instance)
        if lane.instance in self._given_up:
            self._give_up(self._given_up - {lane.instance})
        self._pump(lane)
        self._house()

    def lost(self, lane: Lane) -> None:
        """The session is gone."""
        lane.recall()
        self._fail(lane)
        self._move(lane, lambda parcel: not parcel.batch.keyed)

    def adopted(self) -> None:
        """The router has a new table: find everything that still waits a new place; lanes out of the table end."""
        for lane in list(self.lanes.values()):
            standing = self.router.standing(lane.instance)
            if standing is None or standing.route.endpoint != lane.connection.endpoint:
                del self.lanes[lane.instance]
                lane.recall()
                lane.close()
                self._homeless += lane.queue
            elif lane.connection.ready:
                lane.failing_since_ns = None
                self.router.cleared(lane.instance)
        self._give_up(frozenset(n for n in self._given_up if n in self.lanes and not self.lanes[n].connection.ready))
        self._house()

    def tick(self) -> None:
        """One beat: deadlines, and owners that stayed away too long."""
        now_ns = self._clock.monotonic_ns()
        for lane in list(self.lanes.values()):
            for parcel in lane.overdue(now_ns):
                self._expire(parcel, lane.instance)
            if self._failed_for_ms(lane, now_ns) > GRACE_MS and lane.instance not in self._given_up:
                self._give_up(self._given_up | {lane.instance})
                self._refresh()
            self._pump(lane)
        self._house()
        for parcel in [parcel for parcel in self._homeless if parcel.deadline_ns <= now_ns]:
            self._homeless.remove(parcel)
            self._expire(parcel, "any instance")

    def close(self, error: FedbusError) -> None:
        """Fail what is left."""
        for lane in self.lanes.values():
            lane.recall()
            lane.close()
            self._homeless += lane.queue
            lane.queue.clear()
        while self._homeless:
            self._homeless.popleft().failed(error)

    def _place(self, parcel: Parcel) -> None:
        try:
            parts = parcel.split(self.owner) if parcel.batch.keyed else {self._pick(): parcel}
        except UnavailableError:
            self._homeless.append(parcel)
            return
        for instance, part in parts.items():
            lane = self.lane(instance)
            lane.enqueue(part)
            self._pump(lane)

    def _pick(self) -> str:
        paused = [lane.instance for lane in self.lanes.values() if lane.paused]
        if paused:
            try:
                return self.router.pick(avoid=paused, elsewhere=False).instance
            except UnavailableError:
                pass
        now_ns = self._clock.monotonic_ns()
        home = (self.lanes.get(route.instance) for route in self.router.instances())
        hope = any(lane is not None and 0 <= self._failed_for_ms(lane, now_ns) <= GRACE_MS for lane in home)
        return self.router.pick(elsewhere=not hope).instance

    def _pump(self, lane: Lane) -> None:
        table = self.router.table
        lane.pump(table.version if table else 0, sorted(self._given_up))

    def _house(self) -> None:
        for _ in range(len(self._homeless)):
            self._place(self._homeless.popleft())

    def _move(self, lane: Lane, wanted: Callable[[Parcel], bool]) -> None:
        for parcel in lane.take(wanted):
            self._place(parcel)

    def _fail(self, lane: Lane) -> None:
        self.router.suspect(lane.instance)
        if lane.failing_since_ns is None:
            lane.failing_since_ns = self._clock.monotonic_ns()

    def _failed_for_ms(self, lane: Lane, now_ns: int) -> int:
        return -1 if lane.failing_since_ns is None else (now_ns - lane.failing_since_ns) // NS_PER_MS

    def _give_up(self, instances: frozenset[str]) -> None:
        self._given_up = instances
        self.generation += 1
        for lane in list(self.lanes.values()):
            stuck = lane.failing_since_ns is not None
            self._move(lane, lambda parcel, stuck=stuck: stuck or parcel.batch.keyed)  # type: ignore[misc]

    def _answered(self, lane: Lane, parcel: Parcel, message: wire.FromInstance) -> None:
        if isinstance(message, wire.Published):
            lane.connection.ledger = message.ledger
            parcel.stored(message.ledger, message.first_offset, lane.instance, duplicate=message.duplicate)
            self._pump(lane)
        elif isinstance(message, wire.Refused):
            self._refused(lane, parcel, message)

    def _refused(self, lane: Lane, parcel: Parcel, message: wire.Refused) -> None:
        if not message.retryable:
            parcel.failed(from_code(message.code, message.detail, retry_after_ms=message.retry_after_ms))
            self._pump(lane)
            return
        parcel.attempts += 1
        delay_ms = max(message.retry_after_ms, BACKOFF_MIN_MS << min(parcel.attempts - 1, 7))
        if message.code == DrainingError.code:
            self._fail(lane)
            delay_ms = RETRY_DRAINING_MS
        elif message.code == WrongOwnerError.code:
            self._refresh()
        lane.enqueue(parcel)
        delay_s = min(delay_ms, BACKOFF_MAX_MS) * (0.75 + self._random.random() / 2) / 1000
        lane.pause(delay_s, lambda: self._resume(lane))
        self._move(lane, lambda waiting: not waiting.batch.keyed)

    def _resume(self, lane: Lane) -> None:
        self._move(lane, lambda _: True)
        self._pump(lane)

    def _expire(self, parcel: Parcel, instance: str) -> None:
        topics = ", ".join(parcel.batch.topics[:3])
        unknown = f"; whether they are stored is unknown (a try may survive in {', '.join(parcel.ledgers)})"
        parcel.failed(
            UnavailableError(
                f"{parcel.batch.count} event(s) of {topics}: {instance} did not take them in time"
                f"{unknown if parcel.ledgers else '; nothing of them is stored'}. Publish again with the same ids"
            )
        )
