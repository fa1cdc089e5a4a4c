"""Resource metrics: CPU, memory and network of nodes and instances, as the manager's tick collected them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from fedbus.storage.store.database import Database, metadata, upsert

_resource_metrics = sa.Table(
    "resource_metrics",
    metadata,
    sa.Column("scope", sa.String(255), primary_key=True),
    sa.Column("time_ns", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("cpu_share", sa.Double, nullable=False),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),
    sa.Column("received_bytes_per_s", sa.Double, nullable=False),
    sa.Column("sent_bytes_per_s", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)


class ResourceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One reading. ``scope``: ``node/ID`` or ``instance/ID``; ``cpu_share``: of one core, so it may exceed 1."""

    scope: str
    time_ns: int
    cpu_share: float
    memory_bytes: int
    received_bytes_per_s: float = 0.0
    sent_bytes_per_s: float = 0.0


class StoredResourceMetrics:
    """The readings of a region."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, readings: Iterable[ResourceMetrics]) -> None:
        """Store one tick's readings."""
        with self._database.writing() as connection:
            upsert(connection, _resource_metrics, [msgspec.structs.asdict(reading) for reading in readings])

    def between(self, scope: str, start_ns: int, end_ns: int) -> list[ResourceMetrics]:
        """Readings of a scope in [start_ns, end_ns), oldest first."""
        table = _resource_metrics.c
        statement = (
            sa.select(_resource_metrics)
            .where(table.scope == scope, table.time_ns >= start_ns, table.time_ns < end_ns)
            .order_by(table.time_ns)
        )
        with self._database.reading() as connection:
            return [ResourceMetrics(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 -- documented

    def drop_before(self, time_ns: int) -> int:
        """Forget older readings; how many."""
        with self._database.writing() as connection:
            gone = connection.execute(sa.delete(_resource_metrics).where(_resource_metrics.c.time_ns < time_ns))
            return gone.rowcount
