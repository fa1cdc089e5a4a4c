"""The metadata store's database: its file, its transactions, compare-and-swap, and what its failures mean.

SQLite by default (write-ahead log, every commit on disk before it returns); statements stay within what PostgreSQL
speaks too, except for upserts, which go through the dialect's own insert. Calls block: callers cross a thread boundary.
Records are msgspec structs whose fields are the columns; what they mean is left to the files beside this one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite

from fedbus.errors import ConflictError, DamagedRecordError, EnvironmentUnusableError, NotFoundError, StorageError
from fedbus.storage.store.migrations import migrated

SCHEMA_VERSION = 3
BUSY_TIMEOUT_MS = 5000  # how long a write waits for another process's: store transactions take milliseconds
UPSERT_ROWS = 5000

metadata = sa.MetaData()
_meta = sa.Table(
    "store_meta",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.String(32), nullable=False),
    sa.Column("term", sa.BigInteger, nullable=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
)
_counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)


class Packed(sa.types.TypeDecorator[Any]):
    """A column that holds a value of ``kind`` as JSON text, through msgspec."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind  # part of the statement cache's key
        self._decoder = msgspec.json.Decoder(kind)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """To the database."""
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """From the database."""
        return None if value is None else self._decoder.decode(value)


class Database:
    """An open store. ``uuid`` tells it from a rebuilt one, ``term`` grows when an operator rebuilds it (rule 8)."""

    def __init__(self, where: Path | str, now_ns: int) -> None:
        """Open a SQLite file (made if needed) or a database URL.

        What an earlier version wrote is migrated. Raises EnvironmentUnusableError if a later one wrote it, StorageError
        or DamagedRecordError if it cannot be used. ``now_ns``: Unix time.
        """
        self.where = str(where)
        url = sa.URL.create("sqlite", database=self.where) if isinstance(where, Path) else sa.make_url(where)
        self._engine = sa.create_engine(url)
        self._readers = self._engine.execution_options(fedbus_reading=True)
        self.guard: Callable[[sa.Connection], None] | None = None
        """Runs first in every write transaction; what it raises refuses the write."""
        if url.get_backend_name() == "sqlite":
            event.listen(self._engine, "connect", _set_up_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        try:
            with self.writing() as connection:
                self.uuid, self.term = self._prepare(connection, now_ns)
        except BaseException:
            self._engine.dispose()
            raise

    def _prepare(self, connection: sa.Connection, now_ns: int) -> tuple[str, int]:
        tables = sa.inspect(connection).get_table_names()
        if not tables:
            metadata.create_all(connection)
            row = {"id": 1, "uuid": uuid.uuid4().hex, "term": 1, "schema_version": SCHEMA_VERSION, "created_ns": now_ns}
            connection.execute(sa.insert(_meta).values(row))
        elif _meta.name not in tables:
            raise EnvironmentUnusableError(f"{self.where}: a database, but not a store of fedbus; choose another place")
        version = connection.execute(sa.select(_meta.c.schema_version)).scalar_one_or_none()
        if version is not None and version < SCHEMA_VERSION:
            version = migrated(connection, version)
            connection.execute(sa.update(_meta).values(schema_version=version))
        if version != SCHEMA_VERSION:
            raise EnvironmentUnusableError(
                f"{self.where}: store schema {version} is unknown, this fedbus reads {SCHEMA_VERSION}; "
                "run the version that wrote it, or choose another data directory"
            )
        found = connection.execute(sa.select(_meta.c.uuid, _meta.c.term)).one()
        return found.uuid, found.term

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A write transaction: all of it is on disk when the block ends, or nothing of it happened."""
        with self._explained(), self._engine.begin() as connection:
            if self.guard is not None:
                self.guard(connection)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A read transaction: one consistent view, beside writers."""
        with self._explained(), self._readers.begin() as connection:
            yield connection

    def raise_term(self) -> int:
        """The operator's word that this store replaces a lost one: a higher term, which members accept (rule 8)."""
        with self.writing() as connection:
            term = connection.execute(
                sa.update(_meta).values(term=_meta.c.term + 1).returning(_meta.c.term)
            ).scalar_one()
        self.term = term
        return self.term

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError as error:
            raise ConflictError(f"{self.where}: {error.orig}") from error
        except exc.DBAPIError as error:
            reason = str(error.orig)
            if "not a database" in reason or "malformed" in reason:
                raise DamagedRecordError(
                    f"{self.where}: damaged ({reason}); restore it from a backup, ledgers are not affected"
                ) from error
            if "locked" in reason:
                raise StorageError(f"{self.where}: another process is writing since {BUSY_TIMEOUT_MS} ms") from error
            raise StorageError(f"{self.where}: {reason}; check the disk's space and permissions") from error
        except msgspec.MsgspecError as error:
            raise DamagedRecordError(f"{self.where}: holds a record that cannot be read: {error}") from error


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own transactions would begin too late
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    """A writer takes the write lock at once: a reader that upgrades could fail in the middle."""
    reading = connection.get_execution_options().get("fedbus_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def matching(table: sa.Table, key: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """The condition that columns have these values."""
    return sa.and_(sa.true(), *(table.c[name] == value for name, value in key.items()))


def compare_and_swap(
    connection: sa.Connection, table: sa.Table, key: Mapping[str, Any], expected_version: int, values: Mapping[str, Any]
) -> int:
    """Change the row at ``key`` if it still has ``expected_version``; returns its new version.

    Raises ConflictError if somebody else changed it meanwhile, NotFoundError if it is not there.
    """
    changed = connection.execute(
        sa.update(table)
        .where(matching(table, key), table.c.version == expected_version)
        .values({**values, "version": expected_version + 1})
    )
    if changed.rowcount == 1:
        return expected_version + 1
    found = connection.execute(sa.select(table.c.version).where(matching(table, key))).scalar_one_or_none()
    named = f"{table.name} {'/'.join(str(part) for part in key.values())}"
    if found is None:
        raise NotFoundError(f"{named} does not exist")
    raise ConflictError(f"{named} is at version {found}, not {expected_version}: somebody changed it; read it again")


def upsert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows, replacing those whose primary key is there already."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    replaced = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=replaced)
    for start in range(0, len(rows), UPSERT_ROWS):
        connection.execute(statement, [dict(row) for row in rows[start : start + UPSERT_ROWS]])


def next_number(connection: sa.Connection, counter: str) -> int:
    """The next number of a counter, from 1; never given out again once the transaction is committed."""
    raised = connection.execute(
        sa.update(_counters)
        .where(_counters.c.name == counter)
        .values(value=_counters.c.value + 1)
        .returning(_counters.c.value)
    ).scalar_one_or_none()
    if raised is not None:
        return int(raised)
    connection.execute(sa.insert(_counters).values(name=counter, value=1))
    return 1
