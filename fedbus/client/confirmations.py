"""Whoever waits until acknowledgements are durable: by the message that says them, all of one message together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fedbus.errors import ConflictError, FedbusError, UnavailableError

DURABLE_S = 10.0  # how long a waiting ack waits


class Waiters:
    """Whoever waits for one flush: a future each, and one timer for all, so that waiting costs little."""

    __slots__ = ("futures", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[Waiters], None]) -> None:
        self.futures: list[asyncio.Future[None]] = []
        self.timer = loop.call_later(DURABLE_S, expired, self)

    def settle(self, error: FedbusError | None) -> None:
        """Confirmed, or with an error given up."""
        self.timer.cancel()
        for future in self.futures:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
        self.futures.clear()


Waiting = list[Waiters]


class Confirmations:
    """Who waits for the next message. ``flush`` is called soon after the first of them has come."""

    def __init__(self, endpoint: str, flush: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._waiting: Waiting = []
        self._joining: Waiters | None = None  # the last of them, while others may still join it
        self._refusal = ""
        self._follow: Callable[[Waiting], None] | None = None

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def wait(self) -> asyncio.Future[None]:
        """Done when what is collected is durable; it leaves soon, with that of other tasks that are ready now.

        Raises :class:`ConflictError` if there will be no confirmation; the future :class:`UnavailableError` if it is
        late.
        """
        if self._refusal:
            raise ConflictError(self._refusal)
        if self._joining is None:
            self._joining = Waiters(self._loop, self._expired)
            self._waiting.append(self._joining)
            self._loop.call_soon(self._flush)
        done = self._loop.create_future()
        self._joining.futures.append(done)
        if self._follow is not None:
            self._follow(self.take())
        return done

    def _expired(self, waiters: Waiters) -> None:
        if waiters is self._joining:
            self._joining = None
        waiters.settle(self.late(DURABLE_S))

    def late(self, timeout_s: float) -> UnavailableError:
        """What those are told who have waited so long."""
        return UnavailableError(
            f"{self._endpoint} did not confirm acknowledgements within {timeout_s:.0f} s: their events "
            "may be delivered again"
        )

    def take(self) -> Waiting:
        """All who wait, for the message that has left."""
        waiting, self._waiting, self._joining = self._waiting, [], None
        return waiting

    def put_back(self, waiting: Waiting) -> None:
        """Their message was not confirmed: they wait for the next."""
        self._waiting += waiting

    def hand_over(self, follow: Callable[[Waiting], None]) -> None:
        """There will be no next message: all who wait, and who comes later, wait elsewhere."""
        self._follow = follow
        follow(self.take())

    def give_up(self, error: FedbusError) -> None:
        """There will be no next message."""
        self._joining = None
        for waiters in self._waiting:
            waiters.settle(error)

    def refuse(self, why: str) -> None:
        """Give up; whoever comes later is told :class:`ConflictError` at once."""
        self._refusal = why
        self.give_up(ConflictError(why))
