"""Documents: small named values that are read and written whole (SLAs, triggers, topic policies, the plan's memory)."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa

from fedbus.errors import ConflictError, DamagedRecordError, NotFoundError
from fedbus.storage.store.database import Database, compare_and_swap, matching, metadata

BodyT = TypeVar("BodyT")

_documents = sa.Table(
    "documents",
    metadata,
    sa.Column("kind", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("updated_ns", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class Document(msgspec.Struct, Generic[BodyT], frozen=True):
    """A value under its name, and the version by which a change is recognised."""

    name: str
    body: BodyT
    updated_ns: int
    version: int


class Documents(Generic[BodyT]):
    """All documents of one kind."""

    def __init__(self, database: Database, kind: str, body: Any) -> None:
        """``body``: the type that msgspec decodes to, ``BodyT``."""
        self._database = database
        self._kind = kind
        self._decoder: msgspec.json.Decoder[BodyT] = msgspec.json.Decoder(body)

    def find(self, name: str) -> Document[BodyT] | None:
        """The document of that name, if there is one."""
        with self._database.reading() as connection:
            return self._find(connection, name)

    def get(self, name: str) -> BodyT:
        """The value of that name; NotFoundError."""
        found = self.find(name)
        if found is None:
            raise NotFoundError(f"{self._kind} {name} does not exist")
        return found.body

    def all(self) -> list[Document[BodyT]]:
        """All of them, by name."""
        statement = sa.select(_documents).where(_documents.c.kind == self._kind).order_by(_documents.c.name)
        with self._database.reading() as connection:
            return [self._document(row) for row in connection.execute(statement)]

    def put(self, name: str, body: BodyT, now_ns: int, *, expected_version: int | None = None) -> Document[BodyT]:
        """Store a value under a name.

        ``expected_version``: only if it still has this version (0: only if there is none), else ConflictError.
        """
        values = {"body": msgspec.json.encode(body).decode(), "updated_ns": now_ns}
        with self._database.writing() as connection:
            found = self._find(connection, name)
            version = found.version if found else 0
            if expected_version is not None and expected_version != version:
                raise ConflictError(
                    f"{self._kind} {name} is at version {version}, not {expected_version}; read it again"
                )
            if found is None:
                connection.execute(sa.insert(_documents).values(kind=self._kind, name=name, version=1, **values))
            else:
                compare_and_swap(connection, _documents, {"kind": self._kind, "name": name}, version, values)
        return Document(name, body, now_ns, version + 1)

    def add_missing(self, values: dict[str, BodyT], now_ns: int) -> None:
        """Store what has no document yet (the federation file's): what was changed at run time stays."""
        for name, body in values.items():
            if self.find(name) is None:
                self.put(name, body, now_ns, expected_version=0)

    def delete(self, name: str) -> None:
        """Forget a document; NotFoundError."""
        key = {"kind": self._kind, "name": name}
        with self._database.writing() as connection:
            if connection.execute(sa.delete(_documents).where(matching(_documents, key))).rowcount != 1:
                raise NotFoundError(f"{self._kind} {name} does not exist")

    def _find(self, connection: sa.Connection, name: str) -> Document[BodyT] | None:
        key = {"kind": self._kind, "name": name}
        row = connection.execute(sa.select(_documents).where(matching(_documents, key))).one_or_none()
        return None if row is None else self._document(row)

    def _document(self, row: sa.Row[Any]) -> Document[BodyT]:
        try:
            return Document(row.name, self._decoder.decode(row.body), row.updated_ns, row.version)
        except msgspec.MsgspecError as error:
            raise DamagedRecordError(f"{self._kind} {row.name} cannot be read: {error}; put it again") from error
