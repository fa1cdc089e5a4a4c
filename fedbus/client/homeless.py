"""Acknowledgements whose instance is gone: they go to whoever serves its ledgers now, and so does who waits for them.

Who does not know a ledger ignores what is settled of it. Where the subscription does not stand yet, it is told as soon
as it does; only then is there somebody to confirm that it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from fedbus.client.confirmations import Waiting
from fedbus.client.settling import MOVED, Settling
from fedbus.errors import ConflictError, FedbusError, UnavailableError
from fedbus.ranges import RangeSet

Identity = tuple[int, int]  # of a group: (created, generation); what was delivered under another one is void


class Host(Protocol):
    """An attachment: one that can settle, once it stands."""

    identity: Identity | None
    settling: Settling

    @property
    def standing(self) -> bool:
        """Whether it can."""


class Homeless:
    """``hosts``: the attachments there are; ``stands``: whether all stand that can."""

    def __init__(self, hosts: Callable[[], Iterable[Host]], stands: Callable[[], bool]) -> None:
        self._hosts = hosts
        self._stands = stands
        self._offsets: dict[Identity, dict[str, RangeSet]] = {}
        self._waiting: list[tuple[Identity | None, Waiting]] = []
        self._closed = False

    def settle(self, ledger: str, offsets: list[int], identity: Identity | None) -> None:
        """These were acknowledged to an instance that is gone."""
        for settling in self._standing(identity):
            settling.note(ledger, offsets)
        if identity is not None and not self._stands():
            ranges = self._offsets.setdefault(identity, {}).setdefault(ledger, RangeSet())
            for offset in offsets:
                ranges.add(offset, offset + 1)

    def confirm(self, waiting: Waiting, identity: Identity | None) -> None:
        """They wait until that is durable; they give up by themselves, or when the subscription is closed."""
        if self._closed:
            _settle(waiting, UnavailableError("the subscription ended before an acknowledgement was confirmed"))
        elif waiting:
            self._waiting.append((identity, waiting))
            self._ask()

    def attached(self, host: Host) -> None:
        """The subscription stands there from now on."""
        if host.identity is not None:
            for ledger, ranges in self._offsets.get(host.identity, {}).items():
                host.settling.note(ledger, [offset for start, end in ranges for offset in range(start, end)])
        if self._stands():
            self._offsets.clear()
            self._ask()

    def close(self) -> None:
        """Nobody will confirm anything any more."""
        self._closed = True
        waiting, self._waiting = self._waiting, []
        for identity, waiters in waiting:
            self.confirm(waiters, identity)

    def _ask(self) -> None:
        if not self._stands():
            return
        waiting, self._waiting = self._waiting, []
        for identity, waiters in waiting:
            standing = self._standing(identity)
            if standing:
                told = asyncio.gather(*(settling.confirmations.wait() for settling in standing))
                told.add_done_callback(partial(_confirmed, waiters))
            else:
                _settle(waiters, ConflictError(MOVED))

    def _standing(self, identity: Identity | None) -> list[Settling]:
        return [host.settling for host in self._hosts() if host.standing and host.identity == identity]


def _settle(waiting: Waiting, error: FedbusError | None) -> None:
    for waiters in waiting:
        waiters.settle(error)


def _confirmed(waiting: Waiting, done: asyncio.Future[list[None]]) -> None:
    _settle(waiting, _error(done))


def _error(done: asyncio.Future[list[None]]) -> FedbusError | None:
    if done.cancelled():
        return UnavailableError("an acknowledgement was not confirmed before the end")
    error = done.exception()
    assert error is None or isinstance(error, FedbusError), error
    return error
