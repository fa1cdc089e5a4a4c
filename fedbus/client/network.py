"""The network of a bus: its connections, and whoever lives on them told what becomes of them.

Follows the routing table: connections open and close with it, subscriptions attach to all instances of a region (one
that is drained or silent may still hold backlog), parcels go where the outbox says. While an instance stays away it
asks again where the federation is.
"""

from __future__ import annotations

import asyncio
import logging
import random

from fedbus.broker.protocol import Hello
from fedbus.client.bootstrap import Bootstrap, Source
from fedbus.client.connection import BEAT_S, Connection
from fedbus.client.outbox import Outbox
from fedbus.client.outboxes import Outboxes
from fedbus.client.subscriber import Subscription
from fedbus.client.whereabouts import Whereabouts
from fedbus.clock import Clock
from fedbus.errors import FedbusError, NotFoundError, ProtocolError
from fedbus.routing.router import Router
from fedbus.routing.table import InstanceRoute, RoutingTable

REFRESH_BEATS = 8  # at most so often is the federation looked up again

log = logging.getLogger("fedbus.client")


class Network:
    """Implements :class:`~fedbus.client.connection.ConnectionOwner`. :class:`NotFoundError` for a wrong region."""

    def __init__(self, bootstrap: Bootstrap, find: Source, hello: Hello, clock: Clock) -> None:
        home = hello.region or bootstrap.region
        known = [region.region for region in bootstrap.table.regions]
        if home not in known:
            raise NotFoundError(f"no region {home!r} in this federation: it has {', '.join(known) or 'none'}")
        dice = random.Random()
        self.limits = bootstrap.limits
        self.connections: dict[str, Connection] = {}
        self.subscriptions: set[Subscription] = set()
        self.router = Router(home, dice)
        self.outbox = Outbox(self.router, clock, dice, self.connection, self.refresh)
        self.outboxes = Outboxes(
            self.outbox, lambda regions: Outbox(self.router, clock, dice, self.connection, self.refresh, regions)
        )
        self._find = find
        self._hello = hello
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._refreshing: asyncio.Task[None] | None = None
        self._beats_to_refresh = 0
        self.adopt(bootstrap.table)
        self._beat = self._loop.call_later(BEAT_S, self._tick)

    def connection(self, route: InstanceRoute) -> Connection:
        """The connection to an instance, opened when first asked for."""
        connection = self.connections.get(route.instance)
        if connection is None:
            connection = Connection(route.endpoint, self._hello, self, self.limits, self._clock)
            self.connections[route.instance] = connection
        return connection

    def whereabouts(self) -> Whereabouts:
        """Where a subscription attaches: to the instances of its own region to begin with."""
        return Whereabouts(
            lambda: [region for region, _ in self.router.failover()],
            self._of_region,
            lambda: self._clock.now_ns() // 1_000_000,
        )

    def _of_region(self, region: str) -> dict[str, Connection]:
        return {route.instance: self.connection(route) for route in self.router.instances(region)}

    def adopt(self, table: RoutingTable) -> bool:
        """Follow this table if it is newer than the present one; whether it is."""
        if not self.router.adopt(table):
            return False
        for instance, connection in list(self.connections.items()):
            standing = self.router.standing(instance)
            if standing is None or standing.route.endpoint != connection.endpoint:
                del self.connections[instance]
                connection.close()
        for route in self.router.instances():
            self.outbox.lane(route.instance)
        for outbox in self.outboxes:
            outbox.adopted()
        for subscription in self.subscriptions:
            if subscription.inflow is not None:
                subscription.inflow.refresh()
        return True

    def refresh(self) -> None:
        """Look the federation up again, unless that was done a moment ago."""
        if self._beats_to_refresh <= 0:
            self._beats_to_refresh = REFRESH_BEATS
            self._refreshing = self._loop.create_task(self._find_again())

    def close(self, error: FedbusError) -> None:
        """Fail what is unanswered and say goodbye."""
        self._beat.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()
        for outbox in self.outboxes:
            outbox.close(error)
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()

    def connection_ready(self, connection: Connection) -> None:
        """Go on where the last session ended."""
        self._changed(connection, ready=True)

    def connection_lost(self, connection: Connection, reason: str) -> None:
        """Send elsewhere, or wait."""
        log.info("%s", reason)
        self._changed(connection, ready=False)

    def table_pushed(self, data: bytes) -> None:
        """An instance sent a routing table."""
        try:
            self.adopt(RoutingTable.decode(data))
        except ProtocolError as error:
            log.warning("ignored: %s", error)

    def round_trip(self, connection: Connection, rtt_ms: float) -> None:
        """A heartbeat came back."""
        for instance, known in self.connections.items():
            if known is connection:
                share = connection.queue_bytes / self.limits.uncommitted_bytes
                self.router.observe(instance, rtt_ms, self._clock.monotonic_ns(), share)

    def _changed(self, connection: Connection, *, ready: bool) -> None:
        for outbox, lane in self.outboxes.lanes():
            if lane.connection is connection:
                (outbox.ready if ready else outbox.lost)(lane)
        for subscription in list(self.subscriptions):
            if subscription.inflow is not None:
                subscription.inflow.connection_changed(connection, ready=ready)

    def _tick(self) -> None:
        self._beat = self._loop.call_later(BEAT_S, self._tick)
        self._beats_to_refresh -= 1
        for connection in list(self.connections.values()):
            connection.tick()
        for outbox in self.outboxes:
            outbox.tick()
        self.router.beat(self._clock.monotonic_ns())
        for subscription in list(self.subscriptions):
            if subscription.inflow is not None:
                subscription.inflow.beat()
        if any(not connection.ready for connection in self.connections.values()):
            self.refresh()

    async def _find_again(self) -> None:
        try:
            self.adopt((await self._find()).table)
        except FedbusError as error:
            log.info("the federation cannot be looked up: %s", error)
