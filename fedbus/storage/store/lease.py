"""Which incarnation of a region's manager acts: the newest, by an epoch; what older ones write is refused."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from fedbus.errors import ConflictError
from fedbus.storage.store.database import Database, metadata

_lease = sa.Table(
    "manager_lease",
    metadata,
    sa.Column("region", sa.String(64), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.String(255), nullable=False),
    sa.Column("taken_ns", sa.BigInteger, nullable=False),
)


class Lease(msgspec.Struct, frozen=True):
    """``holder`` (a name for people) acts for the region since ``taken_ns`` under ``epoch``."""

    region: str
    epoch: int
    holder: str
    taken_ns: int


class ManagerLease:
    """The lease of one store; no time-out: whoever is started last takes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, region: str, holder: str, now_ns: int) -> int:
        """Become the manager of the region: the new epoch. From now every write through this store checks it."""
        guard, self._database.guard = self._database.guard, None
        try:
            epoch = self._raise(region, holder, now_ns)
        except BaseException:
            self._database.guard = guard
            raise

        def check(connection: sa.Connection) -> None:
            if (current := self._epoch(connection, region)) != epoch:
                raise ConflictError(
                    f"region {region}: manager epoch {epoch} is over, {current} acts now; this manager must stop"
                )

        self._database.guard = check
        return epoch

    def _raise(self, region: str, holder: str, now_ns: int) -> int:
        with self._database.writing() as connection:
            before = self._epoch(connection, region)
            lease = {"epoch": before + 1, "holder": holder, "taken_ns": now_ns}
            if before == 0:
                connection.execute(sa.insert(_lease).values(region=region, **lease))
            else:
                taken = connection.execute(
                    sa.update(_lease).where(_lease.c.region == region, _lease.c.epoch == before).values(lease)
                )
                if taken.rowcount != 1:
                    raise ConflictError(f"region {region}: another manager took over at the same moment; stop this one")
        return before + 1

    def current(self, region: str) -> Lease | None:
        """Who acts for the region."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(_lease).where(_lease.c.region == region)).one_or_none()
        return None if row is None else Lease(row.region, row.epoch, row.holder, row.taken_ns)

    def _epoch(self, connection: sa.Connection, region: str) -> int:
        found = connection.execute(sa.select(_lease.c.epoch).where(_lease.c.region == region)).scalar_one_or_none()
        return int(found or 0)
