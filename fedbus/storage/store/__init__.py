"""A region's metadata store: one object with an aggregate per noun, each in a file of its own.

Owned by the region's manager; everybody else asks the manager. All calls block. Needs the extra ``cluster``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedbus.control.sla import Sla
from fedbus.control.summary import RegionAddress
from fedbus.control.trigger import Trigger
from fedbus.control.view import Memory, Override
from fedbus.ledger_record import LedgerRecord
from fedbus.limits import Limits
from fedbus.storage.store.capacity_steps import CapacityStep, StoredCapacitySteps
from fedbus.storage.store.database import Database
from fedbus.storage.store.directives import StoredDirectives
from fedbus.storage.store.documents import Document, Documents
from fedbus.storage.store.forecasts import StoredForecasts
from fedbus.storage.store.groups import Group, Groups
from fedbus.storage.store.instances import Instance, Instances
from fedbus.storage.store.lease import Lease, ManagerLease
from fedbus.storage.store.ledgers import Ledgers
from fedbus.storage.store.link_assignments import LinkAssignment, LinkAssignments
from fedbus.storage.store.load_history import LoadSlot, StoredLoadHistory
from fedbus.storage.store.resource_metrics import ResourceMetrics, ResourceSlot, StoredResourceMetrics
from fedbus.storage.store.schemas import StoredSchemas
from fedbus.storage.store.status_log import StatusEntry, StatusLog
from fedbus.storage.store.topic_rules import StoredTopicRules

__all__ = [
    "CapacityStep",
    "Document",
    "Group",
    "Instance",
    "Lease",
    "LinkAssignment",
    "LoadSlot",
    "ResourceMetrics",
    "ResourceSlot",
    "StatusEntry",
    "Store",
]


class Store:
    """An open metadata store; close it when done."""

    def __init__(self, where: Path | str, now_ns: int, limits: Limits | None = None) -> None:
        """Open a SQLite file (made if needed; its directory exists) or a database URL; errors as :class:`Database`."""
        limits = limits or Limits()
        self.database = Database(where, now_ns)
        self.lease = ManagerLease(self.database)
        self.instances = Instances(self.database)
        self.ledgers = Ledgers(self.database)
        self.link_assignments = LinkAssignments(self.database)
        self.groups = Groups(self.database)
        self.load_history = StoredLoadHistory(self.database)
        self.resource_metrics = StoredResourceMetrics(self.database)
        self.capacity_steps = StoredCapacitySteps(self.database)
        self.forecasts = StoredForecasts(self.database, limits.store_forecasts)
        self.directives = StoredDirectives(self.database, limits.store_directives)
        self.status_log = StatusLog(self.database, limits.store_log_rows)
        self.schemas = StoredSchemas(self.database)
        self.slas: Documents[Sla] = Documents(self.database, "sla", Sla)
        self.triggers: Documents[Trigger] = Documents(self.database, "trigger", Trigger)
        self.topics = StoredTopicRules(self.database)
        self.overrides: Documents[Override] = Documents(self.database, "override", Override)
        self.members: Documents[RegionAddress] = Documents(self.database, "member", RegionAddress)
        self.memories: Documents[Memory] = Documents(self.database, "memory", Memory)

    def pass_on(self, records: Sequence[LedgerRecord], receiver: str, heir: str, now_ns: int) -> list[LedgerRecord]:
        """Another dispatcher for these ledgers and, in the same transaction, for what their dispatcher pulls.

        ``receiver``, ``heir``: instance ids. What was pulled so far is in the ledgers. Raises as :meth:`Ledgers.swap`.
        """
        with self.database.writing() as connection:
            swapped = self.ledgers.swap_within(connection, records)
            self.link_assignments.pass_on(connection, receiver, heir, now_ns)
        return swapped

    def retain(self, now_ns: int, load_ns: Mapping[int, int], metrics_ns: Mapping[int, int]) -> None:
        """Forget what is old: histories by the length of their slots in seconds, capacity as the longest metrics."""
        self.load_history.retain(now_ns, load_ns)
        self.resource_metrics.retain(now_ns, metrics_ns)
        self.capacity_steps.drop_before(now_ns - max(metrics_ns.values()))

    def close(self) -> None:
        """Close the database."""
        self.database.close()
