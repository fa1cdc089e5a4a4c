"""The status log: what the manager saw and decided, bounded, for people and for the dashboard."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from fedbus.storage.store.database import Database, Packed, metadata

_status_log = sa.Table(
    "status_log",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time_ns", sa.BigInteger, nullable=False),
    sa.Column("region", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("detail", Packed(dict[str, Any]), nullable=False),
)


class StatusEntry(msgspec.Struct, frozen=True):
    """``kind``: decision, health, provisioning, …; ``message`` is a sentence; ``number`` grows with every entry."""

    number: int
    time_ns: int
    region: str
    kind: str
    message: str
    detail: dict[str, Any] = {}


class StatusLog:
    """The newest ``kept`` entries."""

    def __init__(self, database: Database, kept: int) -> None:
        self._database = database
        self._kept = kept

    def append(
        self, region: str, kind: str, message: str, now_ns: int, detail: dict[str, Any] | None = None
    ) -> StatusEntry:
        """Store an entry, and forget the oldest beyond the bound."""
        values = {"time_ns": now_ns, "region": region, "kind": kind, "message": message, "detail": detail or {}}
        with self._database.writing() as connection:
            number = connection.execute(
                sa.insert(_status_log).values(values).returning(_status_log.c.number)
            ).scalar_one()
            connection.execute(sa.delete(_status_log).where(_status_log.c.number <= number - self._kept))
        return StatusEntry(number, now_ns, region, kind, message, detail or {})

    def recent(self, count: int, *, region: str | None = None, kind: str | None = None) -> list[StatusEntry]:
        """The newest ``count``, newest first."""
        statement = sa.select(_status_log).order_by(_status_log.c.number.desc()).limit(count)
        if region is not None:
            statement = statement.where(_status_log.c.region == region)
        if kind is not None:
            statement = statement.where(_status_log.c.kind == kind)
        with self._database.reading() as connection:
            return [StatusEntry(*row) for row in connection.execute(statement)]
