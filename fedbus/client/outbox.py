"""The outbox: where every parcel of a bus goes, and where it goes next when that fails.

Keyless parcels leave a lost instance at once. Keyed ones wait for their owner for :data:`GRACE_MS` (it may be back, or
a new routing table may name another), then go to the successor and name the owner that did not answer (rules 10, 11).
Other regions are asked only after the same grace. A refusal holds a lane for as long as the instance asks; what waits
for a second region (rule 20) holds nothing up, it goes again later. All of it ends at the parcel's deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fedbus.broker import protocol as wire
from fedbus.client.connection import Connection
from fedbus.client.lane import Lane
from fedbus.client.parcel import Parcel
from fedbus.client.parked import Parked
from fedbus.client.turns import Turns
from fedbus.clock import Clock
from fedbus.errors import (
    DrainingError,
    FedbusError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
    WrongOwnerError,
    from_code,
)
from fedbus.routing.key_region import KeyRegion
from fedbus.routing.router import Dice, Router
from fedbus.routing.table import InstanceRoute

GRACE_MS = 500
BACKOFF_MIN_MS, BACKOFF_MAX_MS = 20, 2000
RETRY_DRAINING_MS = 250
GEO_BACKOFF_MAX_MS = 1000  # less than an instance waits for a refused batch before it takes later ones of its keys
NS_PER_MS = 1_000_000


class Outbox:
    """All lanes."""

    def __init__(
        self,
        router: Router,
        clock: Clock,
        random: Dice,
        connect: Callable[[InstanceRoute], Connection],
        refresh: Callable[[], None],
        regions: Sequence[str | None] = (None,),
    ) -> None:
        self.lanes: dict[str, Lane] = {}
        self._parked = Parked()
        self.turns = Turns(self.lanes, self._parked)
        self.router = router
        self._clock = clock
        self._random = random
        self._connect = connect
        self._refresh = refresh
        self._regions = regions  # the only ones that may be asked, the first before the others; None: home, then all
        self._keys = KeyRegion(router, None if regions[0] is None else [str(region) for region in regions])
        self._given_up: set[str] = set()  # one object: lanes hold it too

    def owner(self, key_hash: int) -> str:
        """The instance that takes this key in this generation; :class:`UnavailableError` if there is none."""
        return self._keys.owner(key_hash, self._given_up).instance

    def lane(self, instance: str) -> Lane:
        """The lane to an instance of the table, opened when first asked for."""
        lane = self.lanes.get(instance)
        if lane is None:
            standing = self.router.standing(instance)
            assert standing is not None, f"the router named {instance}, which it does not know"
            connection = self._connect(standing.route)
            lane = self.lanes[instance] = Lane(
                instance, connection, self.router, self._given_up, self._clock, self.turns, self._answered
            )
        return lane

    def post(self, parcel: Parcel, owner: str | None) -> None:
        """Send a parcel; ``owner`` is whom all its keys belong to in this generation, None: to be found."""
        if owner is None:
            self._place([parcel])
        else:
            lane = self.lane(owner)
            lane.enqueue(parcel)
            lane.pump()

    def ready(self, lane: Lane) -> None:
        """A session with the instance stands."""
        lane.recover()
        if lane.instance in self._given_up:
            self._give_up(self._given_up - {lane.instance})
        lane.pump()
        self._place(self._parked.take_due(self._clock.monotonic_ns()))

    def lost(self, lane: Lane) -> None:
        """The session is gone."""
        lane.recall()
        lane.fail()
        # Keyed ones wait for their owner, unless it was replaced while they were under way: then others wait for them.
        self._place(lane.take(lambda parcel: not parcel.batch.keyed or parcel.generation != self.turns.generation))

    def adopted(self) -> None:
        """The router has a new table: find everything that still waits a new place; lanes out of the table end."""
        for lane in list(self.lanes.values()):
            standing = self.router.standing(lane.instance)
            if standing is None or standing.route.endpoint != lane.connection.endpoint:
                del self.lanes[lane.instance]
                lane.recall()
                lane.close()
                self._parked.add(lane.queue)
            elif lane.connection.ready:
                lane.recover()
        self._give_up({name for name in self._given_up if name in self.lanes and not self.lanes[name].connection.ready})

    def tick(self) -> None:
        """One beat: deadlines, and owners that stayed away too long."""
        now_ns = self._clock.monotonic_ns()
        for lane in list(self.lanes.values()):
            for parcel in lane.overdue(now_ns):
                parcel.expired(lane.instance)
            if self.turns.settling:  # what was not answered by a former owner goes to the present one
                self._place(
                    lane.take(lambda parcel: parcel.batch.keyed and 0 <= parcel.generation < self.turns.generation)
                )
            if lane.failing_for_ms() > GRACE_MS and lane.instance not in self._given_up:
                self._give_up(self._given_up | {lane.instance})
                self._refresh()
            lane.pump()
        for parcel in self._parked.take_overdue(now_ns):
            parcel.expired("any instance")
        if self._keys.review(self._given_up, now_ns):
            self._give_up(self._given_up)
        self._place(self._parked.take_due(now_ns))

    def close(self, error: FedbusError) -> None:
        """Fail what is left."""
        for lane in self.lanes.values():
            lane.recall()
            lane.close()
            self._parked.add(lane.queue)
            lane.queue.clear()
        for parcel in self._parked.take_all():
            parcel.failed(error)

    def _place(self, parcels: Iterable[Parcel]) -> None:
        """Queue all of them before anything is sent: what is not queued yet would hold up nothing behind it."""
        lanes: dict[str, Lane] = {}
        for parcel in parcels:
            try:
                parts = parcel.split(self.owner) if parcel.batch.keyed else {self._pick(): parcel}
            except UnavailableError:
                self._parked.add([parcel])
                continue
            for instance, part in parts.items():
                lane = lanes[instance] = self.lane(instance)
                lane.enqueue(part)
        for lane in lanes.values():
            lane.pump()

    def _pick(self) -> str:
        paused = [lane.instance for lane in self.lanes.values() if lane.paused]
        if paused:
            try:
                return first_of(
                    self._regions, lambda region, **how: self.router.pick(region, paused, **how), elsewhere=False
                )
            except UnavailableError:
                pass
        home = (self.lanes.get(route.instance) for route in self.router.instances(self._regions[0]))
        hope = any(lane is not None and 0 <= lane.failing_for_ms() <= GRACE_MS for lane in home)
        return first_of(self._regions, self.router.pick, elsewhere=not hope)

    def _give_up(self, instances: set[str]) -> None:
        self._given_up.intersection_update(instances)
        self._given_up |= instances
        now_ns = self._clock.monotonic_ns()
        self._keys.review(self._given_up, now_ns)
        self.turns.next_generation()
        moved = self._parked.take_due(now_ns)
        for lane in self.lanes.values():
            stuck = lane.failing_since_ns is not None
            moved += lane.take(lambda parcel, stuck=stuck: stuck or parcel.batch.keyed)  # type: ignore[misc]
        self._place(moved)

    def _answered(self, lane: Lane, parcel: Parcel, message: wire.FromInstance) -> None:
        if isinstance(message, wire.Published):
            if not message.duplicate:  # which may be in any ledger that the instance serves
                lane.connection.ledger = message.ledger
            parcel.stored(message, lane.instance)
        elif isinstance(message, wire.Refused) and message.retryable:
            self._refused(lane, parcel, message)
        elif isinstance(message, wire.Refused):
            parcel.failed(from_code(message.code, message.detail, retry_after_ms=message.retry_after_ms))
        # There is room; and others may have been waiting for this answer.
        for each in list(self.lanes.values()) if self.turns.settling else [lane]:
            each.pump()

    def _refused(self, lane: Lane, parcel: Parcel, message: wire.Refused) -> None:
        parcel.refusal = from_code(message.code, message.detail, retry_after_ms=message.retry_after_ms)
        parcel.refusals += 1
        delay_ms = max(message.retry_after_ms, BACKOFF_MIN_MS << min(parcel.refusals - 1, 7))
        if parcel.geo and message.code in (UnavailableError.code, OverloadedError.code):
            parcel.not_before_ns = self._clock.monotonic_ns() + min(delay_ms, GEO_BACKOFF_MAX_MS) * NS_PER_MS
            self._parked.add([parcel])
            return
        if message.code == DrainingError.code:
            lane.fail()
            delay_ms = RETRY_DRAINING_MS
        elif message.code == WrongOwnerError.code:
            self._refresh()
        elif message.code != OverloadedError.code:
            self.router.failed(lane.instance, self._clock.monotonic_ns())
        lane.enqueue(parcel)
        if parcel.batch.keyed and parcel.generation != self.turns.generation:  # others wait for their turn behind it
            self._place(lane.take(lambda waiting: waiting.batch.keyed))
        delay_s = min(delay_ms, BACKOFF_MAX_MS) * (0.75 + self._random.random() / 2) / 1000
        lane.pause(delay_s, lambda: self._place(lane.take(lambda _: True)))
        self._place(lane.take(lambda waiting: not waiting.batch.keyed))


def first_of(regions: Sequence[str | None], ask: Callable[..., InstanceRoute], *, elsewhere: bool = True) -> str:
    """The router's answer for the first of the regions that has one; None stands for home, then all others."""
    if regions[0] is None:
        return ask(None, elsewhere=elsewhere).instance
    why: FedbusError | None = None
    for region in regions if elsewhere else regions[:1]:
        try:
            return ask(region, elsewhere=False).instance
        except (UnavailableError, NotFoundError) as error:
            why = error
    raise UnavailableError(f"none of {', '.join(map(str, regions))} takes events: {why}")
