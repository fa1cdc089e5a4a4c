"""Peering as the rest of the manager sees it: what is known of the other regions, and what can be asked of them.

Decisions are in ``fedbus.control.peering``, the thread that carries them out in ``peering_thread.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from fedbus.broker.group_spec import GroupRecord
from fedbus.clock import NS_PER_S
from fedbus.control import peering_effects as e
from fedbus.control.membership import Membership
from fedbus.control.peering import GroupDefinitions
from fedbus.control.summary import RegionAddress
from fedbus.errors import ClosedError, UnavailableError
from fedbus_actors.inbox import Inbox
from fedbus_actors.peering_thread import Fate, PeeringConfig, PeeringRegion, PeeringThread, Posted
from fedbus_actors.peering_view import PeeringView

CALL_S = 3.0
SLACK_S = 2.0


class Peering(PeeringView):
    """A region's peering, from :meth:`start` to :meth:`stop`. Any thread may ask it."""

    def __init__(self, config: PeeringConfig) -> None:
        super().__init__(Membership(config.own, config.known).all())
        self.own_keys = config.keys
        self._config = config
        self._inbox: Inbox[Posted] = Inbox()
        self._numbers = itertools.count(1)
        self._calls: dict[int, Fate] = {}
        self._thread: PeeringThread | None = None

    @property
    def problem(self) -> str:
        """Why nothing is heard; empty while it listens."""
        return self._thread.problem if self._thread is not None else "peering has not started"

    def start(self, region: PeeringRegion, groups: GroupDefinitions) -> None:
        """Begin to listen and to report. ``groups``: those of this region."""
        self._thread = PeeringThread(self._config, region, groups, self._inbox, self._calls, self.look)

    def stop(self) -> None:
        """Speak and hear no more; calls under way fail."""
        if self._thread is not None:
            self._thread.stop()

    def publish_groups(self, records: Iterable[GroupRecord]) -> None:
        """Tell all others of these definitions; returns at once."""
        self._inbox.put((e.PublishGroups(list(records)), Future()))

    def learn(self, address: RegionAddress) -> None:
        """What was found out otherwise about a region; returns at once."""
        self._inbox.put((e.LearnAddress(address), Future()))

    def change_members(self, change: e.AddRegion | e.RemoveRegion) -> None:
        """Returns when it is in force here; raises what is wrong with it."""
        self._wait(self._post(change), CALL_S)

    def call(self, region: str, method: str, *arguments: Any, timeout_s: float = CALL_S) -> Any:
        """Another region's answer, in builtins; raises its :class:`FedbusError`, or :class:`UnavailableError`."""
        number = next(self._numbers)
        fate: Fate = Future()
        self._calls[number] = fate
        call = e.Call(number, region, method, list(arguments), round(timeout_s * NS_PER_S))
        posted = self._post(call)
        try:
            self._wait(posted, timeout_s)
            return self._wait(fate, timeout_s)
        finally:
            self._calls.pop(number, None)

    def _post(self, event: e.Input) -> Fate:
        fate: Fate = Future()
        if not self._inbox.put((event, fate)):
            fate.set_exception(ClosedError(f"the manager of {self._config.own.region} is ending"))
        return fate

    def _wait(self, fate: Fate, timeout_s: float) -> Any:
        try:
            return fate.result(timeout_s + SLACK_S)  # the core itself gives up in time
        except FutureTimeoutError:
            raise UnavailableError(f"peering of {self._config.own.region} does not answer in time") from None
