"""How a store of an earlier schema becomes one of this version: steps of plain SQL, in the transaction that opens it.

A step is written against the tables as they were then and stays as it is, whatever becomes of them later.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

_SECOND = 1_000_000_000


def migrated(connection: sa.Connection, version: int) -> int:
    """Take the store's tables as far as the steps lead; the version they have then."""
    while version in _STEPS:
        _STEPS[version](connection)
        version += 1
    return version


def _histories_rolled_up(connection: sa.Connection) -> None:
    """2 → 3: load and resource metrics in several resolutions, capacity in service as steps."""
    rowid = " WITHOUT ROWID" if connection.dialect.name == "sqlite" else ""
    for column in ("measured_s INTEGER", "peak_eps DOUBLE PRECISION", "peak_event_bytes DOUBLE PRECISION"):
        connection.exec_driver_sql(f"ALTER TABLE load_history ADD COLUMN {column} NOT NULL DEFAULT 0")
    connection.exec_driver_sql(
        "UPDATE load_history SET measured_s = slot_s, peak_eps = events / slot_s, "
        "peak_event_bytes = CASE WHEN events > 0 THEN bytes / events ELSE 0 END"
    )
    for table in (_RESOURCE_HISTORY, _CAPACITY_STEPS):
        connection.exec_driver_sql(table + rowid)
    minute_ns = 60 * _SECOND
    connection.exec_driver_sql(
        f"INSERT INTO resource_history SELECT scope, 60, time_ns / {minute_ns} * {minute_ns} AS begins, count(*), "  # noqa: S608 - constants
        "avg(cpu_share), max(cpu_share), avg(memory_bytes), max(memory_bytes), avg(received_bytes_per_s), "
        "avg(sent_bytes_per_s) FROM resource_metrics GROUP BY scope, begins"
    )
    connection.exec_driver_sql("DROP TABLE resource_metrics")
    for coarse_s in (300, 3_600, 86_400):
        for table, key, combined in (
            ("load_history", "region", _LOAD_COMBINED), ("resource_history", "scope", _RESOURCES_COMBINED),
        ):  # fmt: skip
            _roll_up(connection, table, key, combined, coarse_s)


def _roll_up(connection: sa.Connection, table: str, key: str, combined: str, coarse_s: int) -> None:
    """From the next finer resolution of the same series; one that does not divide the coarse slot is none."""
    # No percent sign: drivers take it for a placeholder.
    remainder = f"{coarse_s} - {coarse_s} / slot_s * slot_s"
    finer = (
        f"(SELECT max(slot_s) FROM {table} AS o "  # noqa: S608 - constants
        f"WHERE o.{key} = finer.{key} AND slot_s < {coarse_s} AND {remainder} = 0)"
    )
    coarse_ns = coarse_s * _SECOND
    connection.exec_driver_sql(
        f"INSERT INTO {table} SELECT {key}, {coarse_s}, time_ns / {coarse_ns} * {coarse_ns} AS begins, {combined} "  # noqa: S608 - constants
        f"FROM {table} AS finer WHERE slot_s = {finer} GROUP BY {key}, begins ON CONFLICT DO NOTHING"
    )


def _mean(column: str) -> str:
    return f"sum({column} * readings) / sum(readings)"


_LOAD_COMBINED = "sum(events), sum(bytes), sum(measured_s), max(peak_eps), max(peak_event_bytes)"
_RESOURCES_COMBINED = (
    f"sum(readings), {_mean('cpu_share')}, max(cpu_share_peak), {_mean('memory_bytes')}, max(memory_bytes_peak), "
    f"{_mean('received_bytes_per_s')}, {_mean('sent_bytes_per_s')}"
)
_RESOURCE_HISTORY = (
    "CREATE TABLE resource_history (scope VARCHAR(255) NOT NULL, slot_s INTEGER NOT NULL, time_ns BIGINT NOT NULL, "
    "readings INTEGER NOT NULL, cpu_share DOUBLE PRECISION NOT NULL, cpu_share_peak DOUBLE PRECISION NOT NULL, "
    "memory_bytes DOUBLE PRECISION NOT NULL, memory_bytes_peak DOUBLE PRECISION NOT NULL, "
    "received_bytes_per_s DOUBLE PRECISION NOT NULL, sent_bytes_per_s DOUBLE PRECISION NOT NULL, "
    "PRIMARY KEY (scope, slot_s, time_ns))"
)
_CAPACITY_STEPS = (
    "CREATE TABLE capacity_steps (region VARCHAR(64) NOT NULL, time_ns BIGINT NOT NULL, "
    "capacity_eps DOUBLE PRECISION NOT NULL, instances INTEGER NOT NULL, PRIMARY KEY (region, time_ns))"
)
_STEPS: dict[int, Callable[[sa.Connection], None]] = {2: _histories_rolled_up}
