"""Roll-ups: histories in slots of several lengths, each made of the next finer one, and how long each is kept.

Shared by the tables that hold a series: they have the columns ``slot_s`` and ``time_ns`` (start of the slot, aligned to
the epoch) and further keys. A coarse slot is computed anew from all its finer ones whenever one of them is written, so
that writing a slot again changes nothing twice, and what is late is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fedbus.clock import NS_PER_S
from fedbus.storage.store.database import matching

ROLL_UPS_S = (300, 3_600, 86_400)
"""Five minutes, an hour, a day."""


def coarser(slot_s: int) -> Iterator[int]:
    """The lengths that slots of ``slot_s`` are rolled up to, one from the other, shortest first."""
    for roll_up_s in ROLL_UPS_S:
        if roll_up_s > slot_s and roll_up_s % slot_s == 0:
            yield roll_up_s
            slot_s = roll_up_s


def roll_up(
    connection: sa.Connection,
    table: sa.Table,
    key: Mapping[str, Any],
    slot_s: int,
    span_ns: tuple[int, int],
    combined: Mapping[str, sa.ColumnElement[Any]],
) -> None:
    """Compute all coarser slots anew that touch ``span_ns`` (start, end), where slots of ``slot_s`` were written.

    ``key``: the other key columns' values; ``combined``: per further column the aggregate over the finer rows.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    start_ns, end_ns = span_ns
    for coarse_s in coarser(slot_s):
        coarse_ns = coarse_s * NS_PER_S
        start_ns, end_ns = start_ns // coarse_ns * coarse_ns, -(-end_ns // coarse_ns) * coarse_ns
        begins = (table.c.time_ns // coarse_ns * coarse_ns).label("begins")
        literals = [sa.literal(value) for value in key.values()]
        finer = (
            sa.select(*literals, sa.literal(coarse_s), begins, *combined.values())
            .where(matching(table, {**key, "slot_s": slot_s}), table.c.time_ns >= start_ns, table.c.time_ns < end_ns)
            .group_by(begins)
        )
        statement = insert(table).from_select([*key, "slot_s", "time_ns", *combined], finer)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(table.primary_key.columns),
                set_={name: statement.excluded[name] for name in combined},
            )
        )
        slot_s = coarse_s


def drop_old(
    connection: sa.Connection, table: sa.Table, keys: Sequence[str], now_ns: int, kept_ns: Mapping[int, int]
) -> int:
    """Forget slots older than what is kept of their length (``kept_ns`` by ``slot_s``; others stay); how many.

    Only whole slots of the next length: what a coarse slot was made of stays complete or is gone. ``keys``: the key
    columns before ``slot_s``, by which rows are found without looking through all.
    """
    gone = 0
    columns = [table.c[name] for name in keys]
    series = connection.execute(sa.select(*columns).distinct()).all()
    for slot_s, length_ns in kept_ns.items():
        whole_ns = next(coarser(slot_s), slot_s) * NS_PER_S
        before_ns = (now_ns - length_ns) // whole_ns * whole_ns
        for row in series:
            key = {**dict(zip(keys, row, strict=True)), "slot_s": slot_s}
            gone += connection.execute(
                sa.delete(table).where(matching(table, key), table.c.time_ns < before_ns)
            ).rowcount
    return gone
