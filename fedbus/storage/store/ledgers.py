"""Ledger records: who writes a ledger, which members hold it, where it ends (protocol rules 2 to 5)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from fedbus.errors import ConflictError, NotFoundError
from fedbus.ledger_record import TRANSITIONS, LedgerRecord
from fedbus.storage.store.database import Database, Packed, compare_and_swap, metadata

# A store that replaces a lost one has a higher term (rule 8): its records are newer than any a member has noted.
VERSIONS_PER_TERM = 1 << 40

_ledgers = sa.Table(
    "ledgers",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("writer", sa.String(128), nullable=False),
    sa.Column("dispatcher", sa.String(128), nullable=False),
    sa.Column("term", sa.BigInteger, nullable=False),
    sa.Column("record", Packed(LedgerRecord), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class Ledgers:
    """The ledger records of a region. Every change is a compare-and-swap of the record as it was read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[LedgerRecord]:
        """All records, by id."""
        statement = sa.select(_ledgers.c.record, _ledgers.c.version).order_by(_ledgers.c.id)
        with self._database.reading() as connection:
            return [_versioned(*row) for row in connection.execute(statement)]

    def get(self, ledger: str) -> LedgerRecord:
        """One record; NotFoundError."""
        with self._database.reading() as connection:
            return self._get(connection, ledger)

    def add(self, record: LedgerRecord) -> LedgerRecord:
        """Open a ledger; ConflictError if there is one of that name, whatever became of it."""
        record = _versioned(record, (self._database.term - 1) * VERSIONS_PER_TERM + 1)
        with self._database.writing() as connection:
            if connection.execute(sa.select(_ledgers.c.id).where(_ledgers.c.id == record.id)).first():
                raise ConflictError(f"ledger {record.id} exists already")
            values = {"id": record.id, "version": record.version, **_columns(record)}
            connection.execute(sa.insert(_ledgers).values(values))
        return record

    def swap(self, *records: LedgerRecord) -> list[LedgerRecord]:
        """Store changed records, all or none, with their new versions.

        Raises ConflictError if one was changed since it was read, or may not go from its state to that one;
        NotFoundError.
        """
        with self._database.writing() as connection:
            return self.swap_within(connection, records)

    def swap_within(self, connection: sa.Connection, records: Iterable[LedgerRecord]) -> list[LedgerRecord]:
        """As :meth:`swap`, as a part of a transaction."""
        return [self._swap(connection, record) for record in records]

    def delete(self, record: LedgerRecord) -> None:
        """Forget a ledger that has EXPIRED (or is CLOSED and has no files anywhere); ConflictError otherwise."""
        with self._database.writing() as connection:
            gone = connection.execute(
                sa.delete(_ledgers).where(
                    _ledgers.c.id == record.id,
                    _ledgers.c.version == record.version,
                    _ledgers.c.state.in_(("CLOSED", "EXPIRED")),
                )
            )
            if gone.rowcount != 1:
                raise ConflictError(
                    f"ledger {record.id} is not over and done with at version {record.version}; read it again"
                )

    def _get(self, connection: sa.Connection, ledger: str) -> LedgerRecord:
        statement = sa.select(_ledgers.c.record, _ledgers.c.version).where(_ledgers.c.id == ledger)
        row = connection.execute(statement).one_or_none()
        if row is None:
            raise NotFoundError(f"ledger {ledger} does not exist")
        return _versioned(*row)

    def _swap(self, connection: sa.Connection, record: LedgerRecord) -> LedgerRecord:
        before = self._get(connection, record.id)
        if (before.state, record.state) not in TRANSITIONS:
            raise ConflictError(f"ledger {record.id} is {before.state} and cannot become {record.state}")
        if record.term < before.term:
            raise ConflictError(f"ledger {record.id} is at term {before.term}, {record.term} is over")
        version = compare_and_swap(connection, _ledgers, {"id": record.id}, record.version, _columns(record))
        return _versioned(record, version)


def _columns(record: LedgerRecord) -> dict[str, object]:
    return {
        "state": record.state,
        "writer": record.writer.instance,
        "dispatcher": record.dispatcher,
        "term": record.term,
        "record": record,
    }


def _versioned(record: LedgerRecord, version: int) -> LedgerRecord:
    return msgspec.structs.replace(record, version=version)
