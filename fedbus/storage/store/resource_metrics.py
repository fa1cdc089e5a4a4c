"""Resource metrics: CPU, memory and network of instances and of the whole region, in slots, rolled up as the load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from fedbus.storage.store.database import Database, metadata, upsert
from fedbus.storage.store.roll_up import drop_old, roll_up

_resource_history = sa.Table(
    "resource_history",
    metadata,
    sa.Column("scope", sa.String(255), primary_key=True),
    sa.Column("slot_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time_ns", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("readings", sa.Integer, nullable=False),
    sa.Column("cpu_share", sa.Double, nullable=False),
    sa.Column("cpu_share_peak", sa.Double, nullable=False),
    sa.Column("memory_bytes", sa.Double, nullable=False),
    sa.Column("memory_bytes_peak", sa.Double, nullable=False),
    sa.Column("received_bytes_per_s", sa.Double, nullable=False),
    sa.Column("sent_bytes_per_s", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)


def _mean(name: str) -> sa.ColumnElement[Any]:
    readings = _resource_history.c.readings
    return sa.func.sum(_resource_history.c[name] * readings) / sa.func.sum(readings)


_COMBINED: dict[str, sa.ColumnElement[Any]] = {
    "readings": sa.func.sum(_resource_history.c.readings),
    "cpu_share": _mean("cpu_share"),
    "cpu_share_peak": sa.func.max(_resource_history.c.cpu_share_peak),
    "memory_bytes": _mean("memory_bytes"),
    "memory_bytes_peak": sa.func.max(_resource_history.c.memory_bytes_peak),
    "received_bytes_per_s": _mean("received_bytes_per_s"),
    "sent_bytes_per_s": _mean("sent_bytes_per_s"),
}


class ResourceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One reading. ``scope``: ``region/NAME`` or ``instance/ID``; ``cpu_share``: of one core, so it may exceed 1."""

    scope: str
    time_ns: int
    cpu_share: float
    memory_bytes: int
    received_bytes_per_s: float = 0.0
    sent_bytes_per_s: float = 0.0


class ResourceSlot(msgspec.Struct, frozen=True, kw_only=True):
    """The readings of one slot: their number, means, and the peaks of CPU and memory."""

    scope: str
    time_ns: int
    readings: int
    cpu_share: float
    cpu_share_peak: float
    memory_bytes: float
    memory_bytes_peak: float
    received_bytes_per_s: float = 0.0
    sent_bytes_per_s: float = 0.0

    @classmethod
    def of(cls, time_ns: int, readings: list[ResourceMetrics]) -> ResourceSlot:
        """The slot that starts at ``time_ns``, from one reading or more of one scope."""
        count = len(readings)
        return cls(
            scope=readings[0].scope,
            time_ns=time_ns,
            readings=count,
            cpu_share=sum(each.cpu_share for each in readings) / count,
            cpu_share_peak=max(each.cpu_share for each in readings),
            memory_bytes=sum(each.memory_bytes for each in readings) / count,
            memory_bytes_peak=float(max(each.memory_bytes for each in readings)),
            received_bytes_per_s=sum(each.received_bytes_per_s for each in readings) / count,
            sent_bytes_per_s=sum(each.sent_bytes_per_s for each in readings) / count,
        )


class StoredResourceMetrics:
    """The resource metrics of a region and its instances."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, slot_s: int, slots: Iterable[ResourceSlot]) -> None:
        """Store slots and what they add to coarser ones, in one transaction; a slot that is there is replaced."""
        rows = [{**msgspec.structs.asdict(slot), "slot_s": slot_s} for slot in slots]
        spans: dict[str, tuple[int, int]] = {}
        for row in rows:
            start_ns, end_ns = spans.get(row["scope"], (row["time_ns"], 0))
            spans[row["scope"]] = min(start_ns, row["time_ns"]), max(end_ns, row["time_ns"] + 1)
        if not rows:
            return
        with self._database.writing() as connection:
            upsert(connection, _resource_history, rows)
            for scope, span_ns in spans.items():
                roll_up(connection, _resource_history, {"scope": scope}, slot_s, span_ns, _COMBINED)

    def between(self, scope: str, slot_s: int, start_ns: int, end_ns: int) -> list[ResourceSlot]:
        """Slots of a scope that start in [start_ns, end_ns), oldest first."""
        table = _resource_history.c
        statement = (
            sa.select(*(table[name] for name in ResourceSlot.__struct_fields__))
            .where(table.scope == scope, table.slot_s == slot_s, table.time_ns >= start_ns, table.time_ns < end_ns)
            .order_by(table.time_ns)
        )
        with self._database.reading() as connection:
            return [ResourceSlot(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 -- documented

    def retain(self, now_ns: int, kept_ns: Mapping[int, int]) -> int:
        """Forget slots older than ``kept_ns`` by their length in seconds; how many."""
        with self._database.writing() as connection:
            return drop_old(connection, _resource_history, ["scope"], now_ns, kept_ns)
