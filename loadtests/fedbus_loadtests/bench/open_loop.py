"""An open loop: events are due at fixed times, whether or not earlier ones were answered.

Latency counts from the time an event was due ("intended send time"), so that a stall is charged to every event it
delays (Tene, "How not to measure latency"). A thread keeps the beat, because an event loop's timers are a millisecond
coarse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import Event

from fedbus.clock import NS_PER_S
from fedbus.errors import UnavailableError
from fedbus.threads import spawn
from fedbus_loadtests.bench.system import CLOCK, Load, Sample

NUMBER_BYTES = 8
SETTLE_S = 20.0
MAX_SLEEP_S = 0.5


class OpenLoop:
    """One run: ``events`` at ``rate_eps`` per second, each numbered in the first 8 bytes of its payload."""

    def __init__(self, load: Load, rate_eps: float) -> None:
        self._load = load
        self._interval_ns = int(NS_PER_S / rate_eps)
        self._began_ns = 0
        self._acknowledged = [0] * load.events
        self._delivered = [0] * load.events
        self._open = 2 * load.events
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def run(self, send: Callable[[bytes], Awaitable[object]]) -> Sample:
        """Send everything when it is due; ``send`` returns when the event is acknowledged."""
        self._send = send
        loop = asyncio.get_running_loop()
        ended = Event()
        self._began_ns = CLOCK.monotonic_ns() + 50_000_000
        thread = spawn("bench-beat", lambda: self._beat(loop, ended))
        try:
            await asyncio.wait_for(self._done.wait(), self._load.events * self._interval_ns / NS_PER_S + SETTLE_S)
        except TimeoutError:
            missing = f"{self._open} answers or deliveries are missing {SETTLE_S:.0f} s after the last event"
            raise UnavailableError(missing) from None
        finally:
            ended.set()
            await asyncio.to_thread(thread.join)
        if self._failure is not None:
            raise self._failure
        seconds = (CLOCK.monotonic_ns() - self._began_ns) / NS_PER_S
        return Sample(self._load.events, seconds, self._since_due(self._acknowledged), self._since_due(self._delivered))

    def delivered(self, payload: bytes) -> None:
        """An event reached user code; what comes twice counts once, warm-up not at all."""
        number = int.from_bytes(payload[:NUMBER_BYTES])
        if number < self._load.events and not self._delivered[number]:
            self._delivered[number] = CLOCK.monotonic_ns()
            self._settled()

    def _beat(self, loop: asyncio.AbstractEventLoop, ended: Event) -> None:
        due_ns, number = self._began_ns, 0
        while number < self._load.events and not ended.is_set():
            wait_s = (due_ns - CLOCK.monotonic_ns()) / NS_PER_S
            if wait_s > 0:
                ended.wait(min(wait_s, MAX_SLEEP_S))
                continue
            loop.call_soon_threadsafe(self._fire, number)
            number += 1
            due_ns += self._interval_ns

    def _fire(self, number: int) -> None:
        payloads = self._load.payloads
        payload = number.to_bytes(NUMBER_BYTES) + payloads[number % len(payloads)][NUMBER_BYTES:]
        task = asyncio.get_running_loop().create_task(self._send_one(number, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_one(self, number: int, payload: bytes) -> None:
        try:
            await self._send(payload)
        except Exception as error:  # noqa: BLE001 - raised by run()
            self._failure = error
            self._done.set()
            return
        self._acknowledged[number] = CLOCK.monotonic_ns()
        self._settled()

    def _settled(self) -> None:
        self._open -= 1
        if not self._open:
            self._done.set()

    def _since_due(self, moments_ns: list[int]) -> list[float]:
        return [(at_ns - self._began_ns - n * self._interval_ns) / 1e6 for n, at_ns in enumerate(moments_ns)]
