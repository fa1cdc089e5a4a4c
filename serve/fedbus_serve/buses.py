"""Buses: the gateway's connections to the data plane, one per region that was asked for, made when first asked for.

What the gateway needs of a bus is the protocol :class:`Bus`, which ``fedbus.client`` implements. Sockets belong to the
event loop that made them: everything here happens in the loop of the requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from fedbus.broker.protocol import Start
from fedbus.errors import ClosedError, FedbusError, UnavailableError
from fedbus.event import Event
from fedbus.position import Position


class Receipt(Protocol):
    """What a published event was answered with."""

    @property
    def id(self) -> str:
        """The event's id."""
        ...

    @property
    def position(self) -> Position | None:
        """Where it is stored."""
        ...

    @property
    def instance(self) -> str:
        """Who stored it."""
        ...


class Stream(Protocol):
    """A live subscription: entered it stands, iterated it yields events; leaving ends it."""

    async def __aenter__(self) -> Self:
        """Subscribe at the region's instances."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unsubscribe."""
        ...

    def __aiter__(self) -> AsyncIterator[Event]:
        """Events; fetched on credit, so that a stream nobody reads costs bounded memory."""
        ...

    def cursor(self) -> str:
        """Where to go on after the events yielded so far: an opaque text for ``start``."""
        ...


class Delivery(Protocol):
    """An event delivered to a group: by whom, and where it is."""

    @property
    def event(self) -> Event:
        """The event."""
        ...

    @property
    def instance(self) -> str:
        """Where it is to be settled."""
        ...

    @property
    def position(self) -> Position:
        """Where it is stored."""
        ...


class Consumer(Protocol):
    """A member of a group that receives what it asks for; implemented by :class:`fedbus.client.pulling.Pulling`."""

    async def open(self) -> None:
        """Join the group."""
        ...

    async def close(self) -> None:
        """Leave it: what was not settled is delivered to others."""
        ...

    async def pull(self, most: int, wait_s: float) -> Sequence[Delivery]:
        """Up to ``most`` events; waits up to ``wait_s`` seconds for the first."""
        ...

    async def ack(self, positions: Sequence[tuple[str, Position]]) -> list[FedbusError | None]:
        """Acknowledge (instance, position), durably; per delivery what went wrong."""
        ...

    async def nack(self, instance: str, position: Position, *, delay_ms: int | None, dead_letter: str) -> None:
        """Give one back."""
        ...

    async def extend(self, instance: str, position: Position) -> None:
        """Ask for more time for one."""
        ...


class Bus(Protocol):
    """A connection to one region."""

    async def publish_events(
        self, events: Sequence[tuple[str, Event]], *, idempotent: bool = False
    ) -> Sequence[Receipt | FedbusError]:
        """Publish, in as many batches as it takes; one outcome per event, in order, each durable or failed in time.

        ``idempotent``: retries at other instances count once (:meth:`fedbus.client.bus.Bus.producer`).
        """
        ...

    def subscribe(self, filters: Sequence[str], *, start: Start) -> Stream:
        """Events of these filters, live."""
        ...

    def consume(self, group: str, filters: Sequence[str], *, ack_deadline_ms: int) -> Consumer:
        """Another member of a group that exists, not opened yet."""
        ...

    def taking_instances(self) -> Sequence[str]:
        """Names of the instances that would take an event sent now."""
        ...

    def routing(self, key: str | None = None) -> dict[str, Any]:
        """Where events go and why: a :class:`fedbus_serve.views.RoutingView`; with ``key``, where that goes."""
        ...

    async def close(self) -> None:
        """End all sessions."""
        ...


Connect = Callable[[str], Awaitable[Bus]]


class Buses:
    """One bus per region. ``connect(region)`` makes one; ``regions`` are those there are, the first is the home."""

    def __init__(self, connect: Connect, *, timeout_s: float = 5.0) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._open: dict[str, Bus] = {}
        self._opening: dict[str, asyncio.Task[Bus]] = {}
        self._closed = False

    def known(self, region: str) -> Bus | None:
        """The region's bus if it is connected; costs a dictionary lookup."""
        return self._open.get(region)

    def routing(self) -> list[dict[str, Any]]:
        """What decides here where events go, of every region connected to."""
        return [bus.routing() for bus in self._open.values()]

    async def get(self, region: str) -> Bus:
        """The region's bus; raises what connecting raises, :class:`UnavailableError` if that takes too long."""
        if (bus := self._open.get(region)) is not None:
            return bus
        if self._closed:
            raise ClosedError(
                "the gateway is stopping; send the request again, another one takes it", retry_after_ms=1000
            )
        opening = self._opening.get(region)
        if opening is None:
            opening = asyncio.create_task(self._connected(region), name=f"connect {region}")
            self._opening[region] = opening
        # Shielded: the one who asked first may go away while others wait for the same connection.
        return await asyncio.shield(opening)

    async def _connected(self, region: str) -> Bus:
        try:
            async with asyncio.timeout(self._timeout_s):
                bus = await self._connect(region)
            self._open[region] = bus
            return bus
        except TimeoutError:
            raise UnavailableError(
                f"no instance of region {region} answered within {self._timeout_s:g} s; nothing was stored, try again",
                retry_after_ms=1000,
            ) from None
        finally:
            del self._opening[region]

    async def close(self) -> None:
        """Close every bus; none is opened any more."""
        self._closed = True
        for opening in list(self._opening.values()):
            opening.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        buses = list(self._open.values())
        self._open.clear()
        await asyncio.gather(*(bus.close() for bus in buses), return_exceptions=True)
