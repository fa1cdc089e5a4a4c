"""A region's metadata store: one object with an aggregate per noun, each in a file of its own.

Owned by the region's manager; everybody else asks the manager. All calls block. Needs the extra ``cluster``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedbus.control.sla import Sla
from fedbus.control.trigger import Trigger
from fedbus.control.view import Memory, Override
from fedbus.limits import Limits
from fedbus.storage.store.database import Database
from fedbus.storage.store.directives import StoredDirectives
from fedbus.storage.store.documents import Document, Documents
from fedbus.storage.store.forecasts import StoredForecasts
from fedbus.storage.store.groups import Group, Groups
from fedbus.storage.store.instances import Instance, Instances
from fedbus.storage.store.lease import Lease, ManagerLease
from fedbus.storage.store.ledgers import Fragment, Ledger, Ledgers, Member
from fedbus.storage.store.link_assignments import LinkAssignment, LinkAssignments
from fedbus.storage.store.load_history import StoredLoadHistory
from fedbus.storage.store.resource_metrics import ResourceMetrics, StoredResourceMetrics
from fedbus.storage.store.schemas import StoredSchemas
from fedbus.storage.store.status_log import StatusEntry, StatusLog

__all__ = [
    "Document",
    "Fragment",
    "Group",
    "Instance",
    "Lease",
    "Ledger",
    "LinkAssignment",
    "Member",
    "ResourceMetrics",
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
        self.forecasts = StoredForecasts(self.database, limits.store_forecasts)
        self.directives = StoredDirectives(self.database, limits.store_directives)
        self.status_log = StatusLog(self.database, limits.store_log_rows)
        self.schemas = StoredSchemas(self.database)
        self.slas: Documents[Sla] = Documents(self.database, "sla", Sla)
        self.triggers: Documents[Trigger] = Documents(self.database, "trigger", Trigger)
        self.topics: Documents[dict[str, Any]] = Documents(self.database, "topic", dict[str, Any])
        """Topic policies by filter, as ``TopicPolicy.model_dump(mode="json")`` writes them."""
        self.overrides: Documents[Override] = Documents(self.database, "override", Override)
        self.memories: Documents[Memory] = Documents(self.database, "memory", Memory)

    def close(self) -> None:
        """Close the database."""
        self.database.close()
