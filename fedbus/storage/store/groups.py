"""Groups: the named durable subscriptions; filters, options, home region. Acknowledgements live in the ledgers."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from fedbus.errors import ConflictError, NotFoundError
from fedbus.storage.store.database import Database, Packed, matching, metadata
from fedbus.storage.store.records import Records

_groups = sa.Table(
    "groups",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("filters", Packed(tuple[str, ...]), nullable=False),
    sa.Column("options", Packed(dict[str, Any]), nullable=False),
    sa.Column("home_region", sa.String(64), nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """``options``: start, ack_deadline_ms, max_deliveries, …; ``generation`` grows when the home moves (rule 13)."""

    name: str
    filters: tuple[str, ...]
    home_region: str
    created_ns: int
    options: dict[str, Any] = {}
    generation: int = 1
    version: int = 1


class Groups(Records[Group]):
    """The groups a region knows."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, _groups, Group)

    def create(self, group: Group) -> Group:
        """Store a new group, or return the one there is; ConflictError if that one has other filters."""
        with self._database.writing() as connection:
            try:
                found = self._get(connection, group.name)
            except NotFoundError:
                self._add(connection, group)
                return group
        if set(found.filters) != set(group.filters):
            raise ConflictError(
                f"group {group.name} has the filters {', '.join(found.filters)}; "
                "use another name, or delete the group and its position first"
            )
        return found

    def delete(self, name: str) -> None:
        """Forget a group; NotFoundError."""
        with self._database.writing() as connection:
            if connection.execute(sa.delete(_groups).where(matching(_groups, {"name": name}))).rowcount != 1:
                raise NotFoundError(f"group {name} does not exist")
