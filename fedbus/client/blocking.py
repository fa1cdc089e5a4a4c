"""The same verbs, blocking: a bus whose event loop runs in a thread of its own.

For scripts and code without asyncio. Every call crosses threads, so ``producer().send`` costs some 50 µs here; publish
in bulk through the asyncio client. Events are settled through their subscription: ``subscription.ack(event)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from fedbus.client.bus import Bus, connect
from fedbus.client.producer import Producer
from fedbus.client.receipt import Receipt
from fedbus.client.start import StartLike
from fedbus.client.subscriber import Subscription
from fedbus.event import Event
from fedbus.threads import spawn

T = TypeVar("T")


class LoopThread:
    """An event loop in its own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.SelectorEventLoop()  # the one that can watch ZeroMQ's sockets on every platform
        self._thread = spawn("fedbus-client", self._loop.run_forever)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for its result; Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End loop and thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingProducer:
    """A producer; leaving the context flushes it."""

    def __init__(self, thread: LoopThread, producer: Producer) -> None:
        self._thread = thread
        self._producer = producer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._producer.__aexit__(kind, error, trace))

    def send(self, topic: str, data: Any, **options: Any) -> None:
        """As :meth:`Producer.send`."""
        self._thread.run(self._producer.send(topic, data, **options))

    def flush(self) -> None:
        """As :meth:`Producer.flush`."""
        self._thread.run(self._producer.flush())


class BlockingSubscription:
    """An iterator over events; close it, or use it as a context manager."""

    def __init__(self, thread: LoopThread, subscription: Subscription) -> None:
        self._thread = thread
        self._subscription = subscription

    def __enter__(self) -> Self:
        self._thread.run(self._subscription.__aenter__())
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self._thread.run(self._next())
        if event is None:
            raise StopIteration
        return event

    def take(self, max_events: int, timeout_s: float) -> list[Event]:
        """As :meth:`Subscription.take`."""
        return self._thread.run(self._subscription.take(max_events, timeout_s))

    def ack(self, event: Event, *, wait: bool = False) -> None:
        """Acknowledge an event; with ``wait`` durably."""
        self._thread.run(event.ack(wait=wait))

    def nack(self, event: Event, *, delay_ms: int | None = None, dead_letter: str = "") -> None:
        """Give an event back; see :meth:`Event.nack`."""
        self._thread.run(event.nack(delay_ms=delay_ms, dead_letter=dead_letter))

    def ack_all(self, events: Iterable[Event], *, wait: bool = False) -> None:
        """Acknowledge several events at once."""
        self._thread.run(self._subscription.ack(events, wait=wait))

    def extend(self, event: Event) -> None:
        """Start its acknowledgement deadline anew."""
        self._thread.run(event.extend())

    def cursor(self) -> str:
        """As :meth:`Subscription.cursor`."""
        return self._subscription.cursor()

    def close(self) -> None:
        """End it."""
        self._thread.run(self._subscription.close())

    async def _next(self) -> Event | None:
        return await anext(self._subscription, None)


class BlockingBus:
    """A bus; a context manager, or ``close()``."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._thread = LoopThread()
        try:
            self._thread.run(bus.open())
        except BaseException:
            self._thread.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def publish(self, topic: str, data: Any, **options: Any) -> Receipt:
        """As :meth:`Bus.publish`."""
        return self._thread.run(self._bus.publish(topic, data, **options))

    def producer(self, **options: Any) -> BlockingProducer:
        """As :meth:`Bus.producer`."""

        async def make() -> Producer:
            return self._bus.producer(**options)

        return BlockingProducer(self._thread, self._thread.run(make()))

    def subscribe(
        self, filters: str | Iterable[str], group: str | None = None, start: StartLike | None = None, **options: Any
    ) -> BlockingSubscription:
        """As :meth:`Bus.subscribe`."""

        async def make() -> Subscription:
            return self._bus.subscribe(filters, group, start, **options)

        return BlockingSubscription(self._thread, self._thread.run(make()))

    def close(self) -> None:
        """End it and its thread."""
        self._thread.run(self._bus.close())
        self._thread.stop()


def connect_sync(url: str | list[str], **options: Any) -> BlockingBus:
    """As :func:`fedbus.connect`, blocking: ``with fedbus.connect_sync("http://127.0.0.1:8000") as bus``."""
    return BlockingBus(connect(url, **options))
