"""Groups: the named durable subscriptions; definitions, also of deleted ones. Acknowledgements live in the ledgers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from fedbus.broker.group_spec import GroupRecord
from fedbus.storage.store.database import Database, Packed, metadata
from fedbus.storage.store.records import Records

_groups = sa.Table(
    "groups",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("definition", Packed(GroupRecord), nullable=False),
    sa.Column("home_region", sa.String(64), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """``definition``: what instances are told; of a deleted group it stays, so that none of them brings it back.

    ``home_region``: of a group that is each region's own, this one.
    """

    name: str
    definition: GroupRecord
    home_region: str
    version: int = 1


class Groups(Records[Group]):
    """The groups a region knows, and those it knew."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, _groups, Group)

    def swap_all(self, groups: Sequence[Group]) -> list[Group]:
        """Store changed groups, all or none, if nobody else changed them; with their new versions."""
        with self._database.writing() as connection:
            return [self._swap(connection, group) for group in groups]

    def forget_deleted(self, kept: int) -> None:
        """Keep so many of the deleted ones, the newest."""
        gone = [group for group in self.all() if group.definition.deleted]
        gone.sort(key=lambda group: group.definition.spec.created_ns, reverse=True)
        names = [group.name for group in gone[kept:]]
        if names:
            with self._database.writing() as connection:
                connection.execute(sa.delete(_groups).where(_groups.c.name.in_(names)))
