"""An attachment: one subscription at one bus instance, through as many sessions as it takes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from fedbus.broker import protocol as wire
from fedbus.client.confirmations import Waiting
from fedbus.client.connection import Connection
from fedbus.client.homeless import Homeless, Identity
from fedbus.client.settling import Settling
from fedbus.errors import FedbusError, UnavailableError, from_code

RETRY_S = 0.25
PARTING_S = 2.0
NEVER = 1 << 31  # more events than anybody may be granted


class Reader(Protocol):
    """The subscription as its attachments see it. ``homeless`` takes what was for an instance that is gone."""

    homeless: Homeless

    def request_for(self, attachment: Attachment, request: int) -> wire.Subscribe:
        """What to ask this instance for."""

    def attached(self, attachment: Attachment, tails: dict[str, int]) -> None:
        """It stands at this instance."""

    def arrived(self, attachment: Attachment, deliver: wire.Deliver, frames: list[bytes]) -> None:
        """Events came."""

    def elsewhere(self, region: str) -> None:
        """The group is at home in another region."""

    def failed(self, error: FedbusError) -> None:
        """It cannot go on at all."""


class Attachment:
    """``session`` counts its sessions; credit is given back when half of it has been ``consumed``."""

    def __init__(self, reader: Reader, instance: str, connection: Connection, number: int, credit: int) -> None:
        self.instance = instance
        self.connection = connection
        self.identity: Identity | None = None
        self._reader = reader
        self._number = number
        self.settling = self._settling()
        self.ever_stood = False
        self.from_latest = False  # the start it was last asked for
        self.hopeless = False  # a session was lost, or could not be had, before it ever stood
        self.session = 0
        self.consumed = 0
        self.half = max(1, credit // 2)
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._ended = False

    def _settling(self) -> Settling:
        def elsewhere(ledger: str, offsets: list[int]) -> None:
            self._reader.homeless.settle(ledger, offsets, self.identity)

        def follow(waiting: Waiting) -> None:
            self._reader.homeless.confirm(waiting, self.identity)

        return Settling(self._number, self.connection, elsewhere, follow)

    @property
    def standing(self) -> bool:
        """Whether the instance has confirmed the subscription in the present session."""
        return self.settling.standing

    def attach(self) -> None:
        """Ask for the subscription in the connection's present session, if there is one."""
        self._retry = None
        if not self._ended and self.connection.ready:
            self.connection.deliveries[self._number] = self._delivered
            request = self.connection.request(self._answered)
            if not self.connection.send(self._reader.request_for(self, request)):
                self.connection.forget(request)
                self._again(RETRY_S)

    def lost(self) -> None:
        """The session ended; what it delivered and was not settled will be delivered again."""
        self.hopeless = not self.ever_stood
        self.session += 1
        self.consumed = 0
        self.settling.interrupted()
        self._again(None)

    def grant(self, events: int) -> None:
        """Exactly so many events may come from now on; nothing is given back by itself any more."""
        self.half = NEVER
        if self.standing:
            self.connection.send(wire.Credit(self._number, -NEVER))
            if events > 0:
                self.connection.send(wire.Credit(self._number, events))

    def replenish(self) -> None:
        """Give back the credit of what was consumed."""
        if self.standing and self.connection.send(wire.Credit(self._number, self.consumed)):
            self.consumed = 0

    async def close(self) -> None:
        """Unsubscribe, after what was acknowledged is durable (or a moment has passed)."""
        if self.standing and self.settling.open:
            with suppress(UnavailableError):  # it was buffered: the events come again
                await self.settling.confirm(PARTING_S)
        self.end()

    def end(self) -> None:
        """Unsubscribe at once."""
        self._ended = True
        self._again(None)
        if self.connection.ready:
            self.connection.deliveries.pop(self._number, None)
            self.connection.send(wire.Unsubscribe(0, self._number))
        self.settling.end()

    def _answered(self, message: wire.FromInstance) -> None:
        if self._ended:
            return
        if isinstance(message, wire.Subscribed):
            self.ever_stood = True
            self.hopeless = False
            if self.identity not in (None, message.identity):
                self.settling.void()
                self.settling = self._settling()
            self.identity = message.identity
            self.settling.resumed()
            self._reader.attached(self, message.tails)
        elif isinstance(message, wire.Refused):
            error = from_code(message.code, message.detail)
            if message.retryable:
                self._again(max(message.retry_after_ms / 1000, RETRY_S))
                self._moved(message.region)
            else:
                self._reader.failed(error)

    def _delivered(self, message: wire.Deliver | wire.Ended, frames: list[bytes]) -> None:
        if isinstance(message, wire.Deliver):
            self._reader.arrived(self, message, frames)
            return
        self.lost()
        error = from_code(message.code, message.detail)
        if error.retryable:
            self._again(RETRY_S)
            self._moved(message.region)
        else:
            self._reader.failed(error)

    def _moved(self, region: str) -> None:
        if region:
            self._reader.elsewhere(region)

    def _again(self, delay_s: float | None) -> None:
        """Attach after this time; None: not by itself."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if delay_s is not None:
            self._retry = self._loop.call_later(delay_s, self.attach)
