"""Link assignments: which instance of this region receives an origin ledger, under which term (protocol rule 18)."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from fedbus.errors import NotFoundError
from fedbus.storage.store.database import Database, metadata
from fedbus.storage.store.records import Records

_link_assignments = sa.Table(
    "link_assignments",
    metadata,
    sa.Column("origin_ledger", sa.String(255), primary_key=True),
    sa.Column("receiver", sa.String(64), nullable=False),
    sa.Column("term", sa.BigInteger, nullable=False),
    sa.Column("updated_ns", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class LinkAssignment(msgspec.Struct, frozen=True):
    """``receiver`` pulls and dispatches ``origin_ledger``; what it writes under an older ``term`` is stale."""

    origin_ledger: str
    receiver: str
    term: int
    updated_ns: int
    version: int = 1


class LinkAssignments(Records[LinkAssignment]):
    """The assignments of a region."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, _link_assignments, LinkAssignment)

    def find(self, origin_ledger: str) -> LinkAssignment | None:
        """The assignment of an origin ledger, if it has one."""
        try:
            return self.get(origin_ledger)
        except NotFoundError:
            return None

    def assign(
        self, origin_ledger: str, receiver: str, now_ns: int, *, before: LinkAssignment | None = None
    ) -> LinkAssignment:
        """Hand an origin ledger to a receiver, under the next term; ConflictError if it is no longer as ``before``."""
        if before is None:
            return self.add(LinkAssignment(origin_ledger, receiver, 1, now_ns))
        after = LinkAssignment(origin_ledger, receiver, before.term + 1, now_ns, before.version)
        return self.swap(after)

    def forget(self, origin_ledger: str) -> None:
        """It has expired at its origin."""
        with self._database.writing() as connection:
            table = _link_assignments
            connection.execute(sa.delete(table).where(table.c.origin_ledger == origin_ledger))

    def pass_on(self, connection: sa.Connection, receiver: str, heir: str, now_ns: int) -> None:
        """Hand all that ``receiver`` pulls to ``heir``, under the next term, as a part of a transaction."""
        table = _link_assignments.c
        connection.execute(
            sa.update(_link_assignments)
            .where(table.receiver == receiver)
            .values(receiver=heir, term=table.term + 1, version=table.version + 1, updated_ns=now_ns)
        )
