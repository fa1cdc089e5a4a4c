"""The bus as its user holds it: publish, producers, subscriptions. Underneath is the network."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, Unpack

from fedbus.broker.protocol import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, GroupOptions, Hello
from fedbus.client import producer as producing
from fedbus.client.bootstrap import Bootstrap, Source, from_urls
from fedbus.client.network import Network
from fedbus.client.outbox import Outbox
from fedbus.client.pinned import PinnedProducers
from fedbus.client.producer import Producer
from fedbus.client.receipt import Outcome, Receipt
from fedbus.client.start import StartLike
from fedbus.client.subscriber import GroupDelivery, Subscription, subscription_spec
from fedbus.client.topic_rules import TopicRules
from fedbus.clock import Clock, SystemClock
from fedbus.compression import Compression
from fedbus.errors import ClosedError, ConfigurationError
from fedbus.event import Event
from fedbus.routing.router import Router
from fedbus.routing.table import RoutingTable


class Bus:
    """A client of one federation: async context manager, or ``open()`` and ``close()``; belongs to one event loop."""

    bootstrap: Bootstrap  # what it was opened with

    def __init__(
        self,
        bootstrap: Source,
        hello: Hello,
        *,
        source: str | None = None,
        publish_timeout_ms: int = producing.TIMEOUT_MS,
        clock: Clock | None = None,
        check_schemas: bool = True,
    ) -> None:
        self.source = source or hello.name
        self.publish_timeout_ms = publish_timeout_ms
        self._find = bootstrap
        self._hello = hello
        self._clock = clock or SystemClock()
        self._numbers = 0
        self._network: Network | None = None
        self._singles: Producer | None = None
        self._exact: Producer | None = None  # the same, idempotent
        self._rules = TopicRules(check_schemas=check_schemas)
        self._refreshing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Find the federation; raises what keeps it from being found."""
        self.bootstrap = await self._find()
        self._network = Network(self.bootstrap, self._find, self._hello, self._clock)
        self._singles = self.producer(linger_ms=0)
        self._rules.learn(self.bootstrap)
        if self.bootstrap.complete or self.bootstrap.schemas or self.bootstrap.policies:
            self._refreshing = asyncio.create_task(self._rules.follow(self._find), name="follow schemas and policies")

    async def close(self) -> None:
        """End subscriptions, fail what is unanswered, say goodbye. Flush producers before."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None
        if self._network is not None:
            await asyncio.gather(*(subscription.close() for subscription in list(self._network.subscriptions)))
            self._network.close(ClosedError("the bus was closed before the event was acknowledged"))
            self._network = self._singles = self._exact = None

    async def publish(
        self,
        topic: str,
        data: Any,
        *,
        key: str | None = None,
        type: str | None = None,
        attributes: Mapping[str, str | int | bool] | None = None,
        id: str | None = None,
        time: str | datetime | None = None,
        content_type: str | None = None,
    ) -> Receipt:
        """Publish one event and wait until it is durable.

        Data: bytes as they are, ``str`` as text, anything else as JSON. Calls made at the same time share a batch.
        Raises a typed error if it is refused; :class:`UnavailableError` if it is not known to be durable after the
        time-out.
        """
        return await self._opened().publish(
            topic, data, key=key, type=type, attributes=attributes, id=id, time=time, content_type=content_type
        )

    async def publish_events(self, events: Sequence[tuple[str, Event]], *, idempotent: bool = False) -> list[Outcome]:
        """Publish finished events to their topics: one receipt or error per event, in order.

        ``idempotent``: as of :meth:`producer`.
        """
        singles = self._opened()
        if idempotent:
            singles = self._exact = self._exact or self.producer(linger_ms=0, idempotent=True)
        return await singles.publish_events(events)

    def producer(
        self,
        *,
        linger_ms: float = producing.LINGER_MS,
        batch_events: int = producing.BATCH_EVENTS,
        batch_bytes: int = producing.BATCH_BYTES,
        max_in_flight: int = 0,
        timeout_ms: int = 0,
        idempotent: bool = False,
        compression: Compression | None = None,
    ) -> Producer:
        """A batching producer; a batch leaves when it is full, or ``linger_ms`` after its first event.

        ``max_in_flight``: batches that may be unanswered (0: as many as the limits allow); beyond it ``send`` waits.
        ``timeout_ms``: after it a batch that is not known to be durable fails (0: the bus's ``publish_timeout_ms``).
        ``idempotent``: each event counts once even if it was sent to several instances because of time-outs; such a
        retry is acknowledged at once but delivered only when it is certain that the first try was not stored. Without
        it such a retry is delivered at once, as :attr:`Event.possible_duplicate`. ``compression``: "zstd" makes batches
        of one topic each, compressed.
        """

        def make(outbox: Outbox, pinned: PinnedProducers | None = None) -> Producer:
            return Producer(
                outbox, self.source, self.bootstrap.limits, self._clock, self._rules.guard,
                linger_ms=linger_ms, batch_events=batch_events, batch_bytes=batch_bytes,
                timeout_ms=timeout_ms or self.publish_timeout_ms, max_in_flight=max_in_flight, idempotent=idempotent,
                compression=compression, policies=self._rules.policies, pinned=pinned,
            )  # fmt: skip

        network = self.network
        pinned = PinnedProducers(self._rules.policies, lambda regions: make(network.outboxes.of(regions)))
        return make(network.outbox, pinned)

    def subscribe(
        self,
        filters: str | Iterable[str],
        group: str | None = None,
        start: StartLike | None = None,
        *,
        max_in_flight: int | None = None,
        **options: Unpack[GroupDelivery],
    ) -> Subscription:
        """Subscribe to everything that matches one of the filters: durable with a ``group``, live without.

        ``start``: earliest (default of a new group), latest (default of live ones), a time, a position or a cursor.
        ``max_in_flight``: events an instance may send ahead of what is consumed (2,000 by default) and, if it is given,
        that a member of a group may hold unsettled per instance. The other options are those of the group, recorded
        when it is made; a group that exists keeps its own.
        """
        network = self.network
        limits = self.bootstrap.limits
        spec = subscription_spec(filters, group, start, max_in_flight, GroupOptions(**options), limits)
        self._numbers += 1
        subscription = Subscription(spec, self._numbers, network.whereabouts(), network.subscriptions.discard)
        network.subscriptions.add(subscription)
        return subscription

    def adopt(self, table: RoutingTable) -> bool:
        """Follow this table if it is newer than the present one; whether it is."""
        return self.network.adopt(table)

    def taking_instances(self) -> list[str]:
        """The instances of the region that would take an event sent now."""
        return [route.instance for route in self.router.instances(pickable=True)]

    def _opened(self) -> Producer:
        if self._singles is None:
            raise ClosedError("this bus is not open: use it inside `async with fedbus.connect(...) as bus`")
        return self._singles

    @property
    def router(self) -> Router:
        """The Router over the newest routing table."""
        return self.network.router

    @property
    def network(self) -> Network:
        """Its connections; :class:`ClosedError` unless the bus is open."""
        if self._network is None:
            raise ClosedError("this bus is not open: use it inside `async with fedbus.connect(...) as bus`")
        return self._network


def connect(
    url: str | Sequence[str],
    *,
    region: str | None = None,
    source: str | None = None,
    credentials: str | None = None,
    tls_ca: str | None = None,
    transport: str = "auto",
    publish_timeout_ms: int = producing.TIMEOUT_MS,
) -> Bus:
    """Connect to a federation: ``async with fedbus.connect("http://127.0.0.1:8000") as bus``.

    ``url``: one or several gateways (``http://…``), or any bus instance (``tcp://host:port``); a gateway tells of those
    of other regions, which are asked when it is gone, but at the start only these are known. ``region``: whose
    instances to use first (default: the gateway's). ``source``: the CloudEvents source of what is published.
    ``credentials``: a bearer token for the gateway. ``publish_timeout_ms``: after that an event whose fate is unknown
    raises.
    """
    if transport == "http":
        raise ConfigurationError(
            "transport='http' is not available yet: this version publishes and subscribes over ZeroMQ only. Where "
            "that is blocked, use the gateway's HTTP API directly"
        )
    if transport not in ("auto", "zmq"):
        raise ConfigurationError(f"transport {transport!r} is not one of auto, zmq, http")
    name = f"fedbus/{platform.node() or 'client'}"
    hello = Hello(OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, "client", f"{name}/{os.getpid()}", region or "", True)
    clock = SystemClock()
    find = from_urls([url] if isinstance(url, str) else list(url), hello, clock, credentials, tls_ca)
    return Bus(find, hello, source=source or name, publish_timeout_ms=publish_timeout_ms, clock=clock)
