"""Load history: events and bytes per region and slot, as measured; slots nobody measured are absent, never zero.

What is measured comes in slots of one length (a minute, as configured) and is rolled up to five minutes, an hour and a
day (``roll_up.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import sqlalchemy as sa

from fedbus.control.load import LoadSample
from fedbus.storage.store.database import Database, metadata, upsert
from fedbus.storage.store.roll_up import drop_old, roll_up

_load_history = sa.Table(
    "load_history",
    metadata,
    sa.Column("region", sa.String(64), primary_key=True),
    sa.Column("slot_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time_ns", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("events", sa.Double, nullable=False),
    sa.Column("bytes", sa.Double, nullable=False),
    sa.Column("measured_s", sa.Integer, nullable=False),
    sa.Column("peak_eps", sa.Double, nullable=False),
    sa.Column("peak_event_bytes", sa.Double, nullable=False),
    sqlite_with_rowid=False,  # the key is the order in which ranges are read
)
_COMBINED = {
    "events": sa.func.sum(_load_history.c.events),
    "bytes": sa.func.sum(_load_history.c.bytes),
    "measured_s": sa.func.sum(_load_history.c.measured_s),
    "peak_eps": sa.func.max(_load_history.c.peak_eps),
    "peak_event_bytes": sa.func.max(_load_history.c.peak_event_bytes),
}


class LoadSlot(msgspec.Struct, frozen=True):
    """The load of one slot: totals over the ``measured_s`` seconds of it that were measured.

    ``peak_eps`` and ``peak_event_bytes`` are the largest rate and the largest mean event size of the shortest slots in
    it (minutes).
    """

    time_ns: int
    slot_s: int
    events: float
    bytes: float
    measured_s: int
    peak_eps: float
    peak_event_bytes: float

    @property
    def rate_eps(self) -> float:
        """Mean events/s of what was measured."""
        return self.events / self.measured_s

    @property
    def event_bytes(self) -> float | None:
        """Mean size of an event; None if there was none."""
        return self.bytes / self.events if self.events else None


class StoredLoadHistory:
    """The slots of all regions that write to this store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, region: str, slot_s: int, samples: Iterable[LoadSample]) -> None:
        """Store slots and what they add to coarser ones, in one transaction; a slot that is there is replaced."""
        taken = list(samples)
        if not taken:
            return
        span_ns = min(each.time_ns for each in taken), max(each.time_ns for each in taken) + 1
        with self._database.writing() as connection:
            upsert(connection, _load_history, [_row(region, slot_s, sample) for sample in taken])
            roll_up(connection, _load_history, {"region": region}, slot_s, span_ns, _COMBINED)

    def between(self, region: str, slot_s: int, start_ns: int, end_ns: int) -> list[LoadSample]:
        """The slots that start in [start_ns, end_ns), oldest first."""
        return [
            LoadSample(each.time_ns, each.events, each.bytes) for each in self.slots(region, slot_s, start_ns, end_ns)
        ]

    def slots(self, region: str, slot_s: int, start_ns: int, end_ns: int) -> list[LoadSlot]:
        """The same with all that is known of them; the newest slot of a roll-up is not yet complete."""
        table = _load_history.c
        columns = (table[name] for name in LoadSlot.__struct_fields__)
        statement = (
            sa.select(*columns)
            .where(table.region == region, table.slot_s == slot_s, table.time_ns >= start_ns, table.time_ns < end_ns)
            .order_by(table.time_ns)
        )
        with self._database.reading() as connection:
            return [LoadSlot(*row) for row in connection.execute(statement)]

    def retain(self, now_ns: int, kept_ns: Mapping[int, int]) -> int:
        """Forget slots older than ``kept_ns`` by their length in seconds; how many."""
        with self._database.writing() as connection:
            return drop_old(connection, _load_history, ["region"], now_ns, kept_ns)


def _row(region: str, slot_s: int, sample: LoadSample) -> dict[str, int | float | str]:
    return {
        "region": region,
        "slot_s": slot_s,
        "time_ns": sample.time_ns,
        "events": sample.events,
        "bytes": sample.bytes,
        "measured_s": slot_s,
        "peak_eps": sample.events / slot_s,
        "peak_event_bytes": sample.bytes / sample.events if sample.events else 0.0,
    }
