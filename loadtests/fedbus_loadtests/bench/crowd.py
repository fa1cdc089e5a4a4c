"""A crowd: many subscribers of one stream, and a publisher that stays a bounded number of events ahead of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fedbus.errors import UnavailableError
from fedbus_loadtests.bench.system import Load, Sample, Stopwatch

LOOK_EVERY = 32  # events between looks at how far the crowd is
STALL_S = 20.0


class Crowd:
    """``connections`` subscribers; ``arrived`` is what their user code calls. ``window``: events ahead."""

    def __init__(self, connections: int, window: int) -> None:
        self.count = 0
        self._connections = connections
        self._window = window

    def arrived(self) -> None:
        """One event reached one subscriber."""
        self.count += 1

    async def run(self, load: Load, send: Callable[[bytes], Awaitable[object]]) -> Sample:
        """Publish everything and wait until everybody has everything; counted are deliveries."""
        watch = Stopwatch()
        for number, (_, payload) in enumerate(load.pairs()):
            await send(payload)
            if number % LOOK_EVERY == 0:
                await self._reached((number - self._window) * self._connections)
        await self._reached(load.events * self._connections)
        return Sample(self.count, watch.seconds)

    async def _reached(self, wanted: int) -> None:
        seen, watch = self.count, Stopwatch()
        while self.count < wanted:
            await asyncio.sleep(0)
            if self.count != seen:
                seen, watch = self.count, Stopwatch()
            elif watch.seconds > STALL_S:
                raise UnavailableError(
                    f"{wanted - self.count} deliveries are missing, and none came for {STALL_S:.0f} s"
                )
