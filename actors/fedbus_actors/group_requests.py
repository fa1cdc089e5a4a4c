"""Groups that instances ask for because somebody subscribes: one thread makes them and tells everybody.

Who asked is told last, by the definition itself: a subscription that waits there goes on when every other living
instance has recorded the group (protocol rule 15). Instances repeat what they ask for until they are told.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from fedbus.broker.effects import RequestGroup
from fedbus.broker.group_spec import GroupSpec
from fedbus.errors import FedbusError
from fedbus.threads import spawn
from fedbus_actors.fleet import Fleet
from fedbus_actors.instance_calls import living

log = logging.getLogger(__name__)


class GroupRequests:
    """One region's. ``create(spec)``: make it, if there is none anywhere.

    ``tell(members, *groups)``: who of these has not recorded them, and why.
    """

    def __init__(
        self, region: str, fleet: Fleet, create: Callable[[GroupSpec], None], tell: Callable[..., dict[str, Any]]
    ) -> None:
        self._region = region
        self._fleet = fleet
        self._create = create
        self._tell = tell
        self._requests: dict[str, tuple[GroupSpec, set[str]]] = {}  # by group, with who asked
        self._asked = threading.Event()
        self._stopping = False
        self._thread = spawn(f"groups-{region}", self._run)

    def stop(self) -> None:
        """Answer no more requests."""
        self._stopping = True
        self._asked.set()
        self._thread.join()

    def add(self, instance: str, request: RequestGroup) -> None:
        """Somebody subscribes to a group that this instance (region/id) does not know; answered by calls of it."""
        spec = request.spec
        _, asking = self._requests.setdefault(spec.name, (spec, set()))
        asking.add(instance)
        self._asked.set()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._stopping:
                return
            try:
                self._serve()
            except Exception:  # instances ask again
                log.exception("groups of %s: a request failed", self._region)

    def _serve(self) -> None:
        """All requests that wait: make the groups, tell the others first and then those who asked."""
        made: dict[str, set[str]] = {}
        for name in list(self._requests):
            spec, asking = self._requests.pop(name)
            try:
                self._create(spec)
                made[name] = asking
            except FedbusError as error:
                self._refuse(asking, name, error)
        if not made:
            return
        asking = set().union(*made.values())
        members = list(self._fleet.members.values())
        failures = self._tell((each for each in members if each.name not in asking), *made)
        if failures:  # who asked does so again until the others are there, or known to be away
            log.warning("groups %s wait for %s", ", ".join(made), failures)
            return
        self._tell((each for each in members if each.name in asking), *made)

    def _refuse(self, instances: set[str], name: str, error: FedbusError) -> None:
        for member in living(list(self._fleet.members.values())):
            if member.name in instances:
                member.handle.group_refused.remote(name, error.code, error.detail, error.retryable)
