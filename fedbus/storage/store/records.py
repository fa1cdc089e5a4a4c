"""Rows as typed records: what all aggregates of the store do alike (read, add, change by compare-and-swap)."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa

from fedbus.errors import ConflictError, NotFoundError
from fedbus.storage.store.database import Database, compare_and_swap, matching

RecordT = TypeVar("RecordT", bound=msgspec.Struct)


class Records(Generic[RecordT]):
    """Records of one kind: a struct whose fields are the table's columns, one of them ``version``."""

    def __init__(self, database: Database, table: sa.Table, kind: type[RecordT]) -> None:
        self._database = database
        self._table = table
        self._kind = kind
        self._key = [column.name for column in table.primary_key.columns]

    def get(self, *key: Any) -> RecordT:
        """The record at ``key``; NotFoundError."""
        with self._database.reading() as connection:
            return self._get(connection, *key)

    def all(self, **equal: Any) -> list[RecordT]:
        """All records whose fields equal these, in the order of their keys."""
        statement = (
            sa.select(self._table).where(matching(self._table, equal)).order_by(*self._table.primary_key.columns)
        )
        with self._database.reading() as connection:
            return [self._record(row) for row in connection.execute(statement)]

    def add(self, record: RecordT) -> RecordT:
        """Store a new record; ConflictError if there is one at its key."""
        with self._database.writing() as connection:
            self._add(connection, record)
        return record

    def swap(self, record: RecordT) -> RecordT:
        """Store a changed record, if nobody else changed it since it was read; returns it with its new version.

        Raises ConflictError, NotFoundError.
        """
        with self._database.writing() as connection:
            return self._swap(connection, record)

    def _get(self, connection: sa.Connection, *key: Any) -> RecordT:
        named = dict(zip(self._key, key, strict=True))
        row = connection.execute(sa.select(self._table).where(matching(self._table, named))).one_or_none()
        if row is None:
            raise NotFoundError(f"{self._table.name}: there is no {'/'.join(str(part) for part in key)}")
        return self._record(row)

    def _add(self, connection: sa.Connection, record: RecordT) -> None:
        values = msgspec.structs.asdict(record)
        key = {name: values[name] for name in self._key}
        if connection.execute(sa.select(self._table.c[self._key[0]]).where(matching(self._table, key))).first():
            named = "/".join(str(part) for part in key.values())
            raise ConflictError(f"{self._table.name}: {named} exists already")
        connection.execute(sa.insert(self._table).values(values))

    def _swap(self, connection: sa.Connection, record: RecordT) -> RecordT:
        values = msgspec.structs.asdict(record)
        key = {name: values.pop(name) for name in self._key}
        version = compare_and_swap(connection, self._table, key, values.pop("version"), values)
        return msgspec.structs.replace(record, version=version)

    def _record(self, row: sa.Row[Any]) -> RecordT:
        return self._kind(**row._mapping)  # noqa: SLF001 -- the documented way to a row's mapping
