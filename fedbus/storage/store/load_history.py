"""Load history: events and bytes per region and slot, as measured; slots nobody measured are absent, never zero."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from fedbus.control.load import LoadSample
from fedbus.storage.store.database import Database, metadata, upsert

_load_history = sa.Table(
    "load_history",
    metadata,
    sa.Column("region", sa.String(64), primary_key=True),
    sa.Column("slot_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time_ns", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("events", sa.Double, nullable=False),
    sa.Column("bytes", sa.Double, nullable=False),
    sqlite_with_rowid=False,  # the key is the order in which ranges are read
)


class StoredLoadHistory:
    """The slots of all regions that write to this store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, region: str, slot_s: int, samples: Iterable[LoadSample]) -> None:
        """Store slots in one transaction; a slot that is there already is replaced."""
        rows = [
            {"region": region, "slot_s": slot_s, "time_ns": each.time_ns, "events": each.events, "bytes": each.bytes}
            for each in samples
        ]
        with self._database.writing() as connection:
            upsert(connection, _load_history, rows)

    def between(self, region: str, slot_s: int, start_ns: int, end_ns: int) -> list[LoadSample]:
        """The slots that start in [start_ns, end_ns), oldest first."""
        table = _load_history.c
        statement = (
            sa.select(table.time_ns, table.events, table.bytes)
            .where(table.region == region, table.slot_s == slot_s, table.time_ns >= start_ns, table.time_ns < end_ns)
            .order_by(table.time_ns)
        )
        with self._database.reading() as connection:
            return [LoadSample(*row) for row in connection.execute(statement)]

    def drop_before(self, time_ns: int) -> int:
        """Forget slots that start before; how many."""
        with self._database.writing() as connection:
            return connection.execute(sa.delete(_load_history).where(_load_history.c.time_ns < time_ns)).rowcount
