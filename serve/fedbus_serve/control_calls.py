"""The managers behind a gateway: those of its own cluster by actor, those of other clusters through one of them.

All of Ray that the control plane needs in the gateway is here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import ray

from fedbus.errors import FedbusError, UnavailableError
from fedbus.schema.rows import Change, Snapshot
from fedbus_actors import remote

ASK_S = 3.0
CHANGE_S = 10.0  # a group that moves is first settled

log = logging.getLogger(__name__)


class ControlCalls:
    """``own``: the regions of this cluster, the gateway's home first."""

    def __init__(self, federation: str, own: Sequence[str]) -> None:
        self._federation = federation
        self.own = tuple(own)

    async def ask(self, region: str, method: str, *arguments: Any) -> Any:
        """A manager's answer; raises its :class:`FedbusError`, UnavailableError if it does not answer in time."""
        handle, call, arguments = self._way(region, method, arguments)
        patience_s = CHANGE_S if method == "change" else ASK_S
        return await remote.answer(getattr(handle, call).remote(*arguments), f"manager of region {region}", patience_s)

    def ask_and_wait(self, region: str, method: str, *arguments: Any) -> Any:
        """The same, for a thread that may wait."""
        handle, call, arguments = self._way(region, method, arguments)
        answer = remote.ask({0: partial(getattr(handle, call).remote, *arguments)}, ASK_S)[0]
        if isinstance(answer, ray.exceptions.RayTaskError) and isinstance(answer.cause, FedbusError):
            raise answer.cause
        if isinstance(answer, Exception):
            log.warning("manager of region %s: %s failed: %r", region, method, answer)
            raise UnavailableError(f"the manager of region {region} does not answer", retry_after_ms=1000)
        return answer

    def _way(self, region: str, method: str, arguments: tuple[Any, ...]) -> tuple[Any, str, tuple[Any, ...]]:
        """Whom to call, and how, to reach the manager of a region."""
        for own in (region,) if region in self.own else self.own:
            handle = remote.find(remote.manager_name(self._federation, own))
            if handle is not None:
                return (handle, method, arguments) if own == region else (handle, "relay", (region, method, *arguments))
        away = region if region in self.own else ", ".join(self.own)
        raise UnavailableError(f"the manager of region {away} is away; it restarts by itself", retry_after_ms=1000)


class ManagedSchemaStore:
    """The registry's rows in its home region's store (implements ``fedbus.schema.store.SchemaStore``)."""

    def __init__(self, managers: ControlCalls, home: str) -> None:
        self._managers = managers
        self._home = home

    def revision(self) -> int:
        """See :class:`fedbus.schema.store.SchemaStore`."""
        return int(self._ask("revision"))

    def load(self, after_schema_id: int) -> Snapshot:
        """See :class:`fedbus.schema.store.SchemaStore`."""
        return cast("Snapshot", self._ask("load", after_schema_id))

    def commit(self, expected_revision: int, change: Change) -> bool:
        """See :class:`fedbus.schema.store.SchemaStore`."""
        return bool(self._ask("commit", expected_revision, change))

    def _ask(self, call: str, *arguments: Any) -> Any:
        try:
            return self._managers.ask_and_wait(self._home, "schemas", call, *arguments)
        except UnavailableError as error:
            raise UnavailableError(
                f"the schema registry's home, region {self._home}, does not answer ({error.detail}); schemas known "
                "here still work, new ones have to wait",
                retry_after_ms=1000,
            ) from error
