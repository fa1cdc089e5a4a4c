"""Capacity in service over time: a step whenever it changed, so that it can be held against the load that came."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from fedbus.storage.store.database import Database, metadata, upsert

_capacity_steps = sa.Table(
    "capacity_steps",
    metadata,
    sa.Column("region", sa.String(64), primary_key=True),
    sa.Column("time_ns", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("capacity_eps", sa.Double, nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)


class CapacityStep(msgspec.Struct, frozen=True):
    """From ``time_ns`` on so many instances were in service, and hold so many events/s together."""

    time_ns: int
    capacity_eps: float
    instances: int


class StoredCapacitySteps:
    """The steps of a region."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, region: str, step: CapacityStep) -> None:
        """Store a step."""
        with self._database.writing() as connection:
            upsert(connection, _capacity_steps, [{"region": region, **msgspec.structs.asdict(step)}])

    def between(self, region: str, start_ns: int, end_ns: int) -> list[CapacityStep]:
        """What was in service in [start_ns, end_ns): the step in force at the start and those after it."""
        table = _capacity_steps.c
        in_force = (
            sa.select(sa.func.max(table.time_ns))
            .where(table.region == region, table.time_ns <= start_ns)
            .scalar_subquery()
        )
        statement = (
            sa.select(table.time_ns, table.capacity_eps, table.instances)
            .where(
                table.region == region, table.time_ns >= sa.func.coalesce(in_force, start_ns), table.time_ns < end_ns
            )
            .order_by(table.time_ns)
        )
        with self._database.reading() as connection:
            return [CapacityStep(*row) for row in connection.execute(statement)]

    def drop_before(self, time_ns: int) -> int:
        """Forget older steps; how many."""
        with self._database.writing() as connection:
            return connection.execute(sa.delete(_capacity_steps).where(_capacity_steps.c.time_ns < time_ns)).rowcount
