"""Whose keys are whose: an instance's view of the routing table, by which it refuses foreign keys (rule 11)."""

from __future__ import annotations

from fedbus.batch import Batch
from fedbus.broker.protocol import Publish
from fedbus.broker.publish_order import RETRY_MS
from fedbus.errors import WrongOwnerError
from fedbus.keys import NO_OWNER, slot_of
from fedbus.routing.table import RoutingTable


class SlotOwners:
    """The owners of a region's key slots in the newest table that this instance was told."""

    def __init__(self, region: str, instance: str) -> None:
        self._region = region
        self._instance = instance
        self._version = 0
        self._owners: list[str | None] = []

    def adopt_table(self, table: RoutingTable) -> None:
        """From now on slots belong to whom this table says."""
        route = table.region(self._region)
        names = [instance.instance for instance in route.instances] if route is not None else []
        places = route.owner_places() if route is not None else ()
        self._version = table.version
        self._owners = [names[place] if place != NO_OWNER else None for place in places]

    def foreign(self, batch: Batch, request: Publish) -> dict[int, str]:
        """The keys of others, and whose they are; those of owners named unreachable are taken."""
        if not batch.keyed or not self._owners or request.table_version >= self._version:
            return {}
        mine = {self._instance, None, *request.unreachable}
        owners = ((key, self._owners[slot_of(key)]) for key in set(batch.keys) if key)
        return {key: owner for key, owner in owners if owner is not None and owner not in mine}

    def check(self, batch: Batch, request: Publish, foreign: dict[int, str]) -> None:
        """Raise :class:`WrongOwnerError` if there are such, or the batch was placed by a table not known here yet."""
        if batch.keyed and request.table_version > self._version:  # what it has to take over, it learns with that table
            raise WrongOwnerError(
                f"keys of this batch were placed by routing table {request.table_version}; {self._instance} still has "
                f"{self._version}",
                retry_after_ms=RETRY_MS,
            )
        if foreign:
            raise WrongOwnerError(
                f"keys of this batch belong to {', '.join(sorted(set(foreign.values())))} in routing table "
                f"{self._version}, not to {self._instance}"
            )
