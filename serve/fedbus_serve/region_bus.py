"""A region's bus as the gateway uses it: the client library's, bootstrapped from the control plane's last answer.

The gateway needs a manager only to find the instances for the first time: from then on routing tables come over the
data sockets, and what was heard last stands in for a manager that is away.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

from fedbus.broker.protocol import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Hello, Start
from fedbus.client.bootstrap import Bootstrap
from fedbus.client.bus import Bus
from fedbus.client.pulling import Pulling
from fedbus.clock import SystemClock
from fedbus.errors import FedbusError
from fedbus.event import Event
from fedbus.keys import key_hash
from fedbus_serve.buses import Connect, Consumer, Receipt, Stream
from fedbus_serve.control_cache import ControlCache

PUBLISH_TIMEOUT_MS = 15_000  # shorter than any proxy's patience: the gateway answers first, and says what it knows
STREAM_CREDIT_EVENTS = 256  # per instance and stream; events can be large, and there may be a thousand streams


class RegionBus:
    """Implements :class:`fedbus_serve.buses.Bus` over the client library."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def publish_events(
        self, events: Sequence[tuple[str, Event]], *, idempotent: bool = False
    ) -> Sequence[Receipt | FedbusError]:
        """See :meth:`fedbus.client.bus.Bus.publish_events`; it splits what is larger than one batch."""
        return await self._bus.publish_events(events, idempotent=idempotent)

    def subscribe(self, filters: Sequence[str], *, start: Start) -> Stream:
        """A live subscription."""
        return self._bus.subscribe(filters, start=start, max_in_flight=STREAM_CREDIT_EVENTS)

    def consume(self, group: str, filters: Sequence[str], *, ack_deadline_ms: int) -> Consumer:
        """Another member of a group that exists."""
        return Pulling(self._bus.subscribe(filters, group), ack_deadline_ms, SystemClock())

    def taking_instances(self) -> list[str]:
        """The region's instances that take events and that this process has a session with."""
        connections = self._bus.network.connections
        return [
            route.instance
            for route in self._bus.router.instances()
            if route.takes_events and route.instance in connections and connections[route.instance].ready
        ]

    def routing(self, key: str | None = None) -> dict[str, Any]:
        """See :meth:`fedbus_serve.buses.Bus.routing`."""
        router = self._bus.router
        if key is not None:
            instance, why = router.explain_key(key_hash(key))
            return {"region": router.home_region, "key": key, "instance": instance, "why": why}
        table, regions = router.table, router.failover()
        return {
            "region": router.home_region,
            "told_by": "gateway",
            "federation": table.federation if table is not None else "",
            "version": table.version if table is not None else 0,
            "routes": router.explain(),
            "failover": [region for region, _ in regions],
            "predicted_ms": {region: round(ms, 1) for region, ms in regions},
            "reasons": router.reasons(),
        }

    async def close(self) -> None:
        """Say goodbye to the instances."""
        await self._bus.close()


def region_connector(control: ControlCache) -> Connect:
    """Connects to the region that is asked for, as the control plane describes it."""

    async def find() -> Bootstrap:
        reading = await control.bootstrap("internal")
        found: Bootstrap = reading.value
        return found

    async def connect(region: str) -> RegionBus:
        name = f"gateway/{platform.node()}/{os.getpid()}"
        hello = Hello(OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, "gateway", name, region, True)
        bus = Bus(find, hello, source="/fedbus/gateway", publish_timeout_ms=PUBLISH_TIMEOUT_MS, check_schemas=False)
        await bus.open()
        return RegionBus(bus)

    return connect
