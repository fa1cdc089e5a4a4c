"""The registry's rows in the metadata store: implements :class:`fedbus.schema.store.SchemaStore` over four tables."""

from __future__ import annotations

import sqlalchemy as sa

from fedbus.schema.rows import Change, LevelRow, SchemaRow, Snapshot, VersionRow
from fedbus.storage.store.database import Database, metadata, upsert

_revision = sa.Table(
    "schema_revision",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
_schemas = sa.Table(
    "schemas",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("fingerprint", sa.String(64), unique=True, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
_versions = sa.Table(
    "schema_versions",
    metadata,
    sa.Column("subject", sa.String(512), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Integer, sa.ForeignKey("schemas.id"), nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
)
_levels = sa.Table(
    "schema_levels",
    metadata,
    sa.Column("subject", sa.String(512), primary_key=True),
    sa.Column("level", sa.String(32), nullable=False),
)


class StoredSchemas:
    """See :class:`fedbus.schema.store.SchemaStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def revision(self) -> int:
        """The revision of the last committed change."""
        with self._database.reading() as connection:
            return self._read_revision(connection)

    def load(self, after_schema_id: int) -> Snapshot:
        """Everything at one revision; schemas only with greater ids."""
        with self._database.reading() as connection:
            newer = sa.select(_schemas).where(_schemas.c.id > after_schema_id)
            return Snapshot(
                self._read_revision(connection),
                tuple(SchemaRow(*row) for row in connection.execute(newer)),
                tuple(VersionRow(*row) for row in connection.execute(sa.select(_versions))),
                tuple(LevelRow(*row) for row in connection.execute(sa.select(_levels))),
            )

    def commit(self, expected_revision: int, change: Change) -> bool:
        """Apply the change if the revision is still the expected one."""
        with self._database.writing() as connection:
            if not self._raise_revision(connection, expected_revision):
                return False
            for schema in change.schemas:
                row = {"id": schema.id, "fingerprint": schema.fingerprint, "text": schema.text}
                connection.execute(sa.insert(_schemas).values(row))
            for version in change.versions:
                values = {
                    "subject": version.subject,
                    "version": version.version,
                    "id": version.id,
                    "deleted": version.deleted,
                }
                upsert(connection, _versions, [values])
            for subject, number in change.removed:
                connection.execute(
                    sa.delete(_versions).where(_versions.c.subject == subject, _versions.c.version == number)
                )
            for level in change.levels:
                if level.level is None:
                    connection.execute(sa.delete(_levels).where(_levels.c.subject == level.subject))
                else:
                    upsert(connection, _levels, [{"subject": level.subject, "level": level.level}])
        return True

    def _read_revision(self, connection: sa.Connection) -> int:
        return connection.execute(sa.select(_revision.c.revision)).scalar_one_or_none() or 0

    def _raise_revision(self, connection: sa.Connection, expected: int) -> bool:
        raised = connection.execute(
            sa.update(_revision).where(_revision.c.revision == expected).values(revision=expected + 1)
        )
        if raised.rowcount == 1:
            return True
        if expected != 0 or self._read_revision(connection) != 0:
            return False
        connection.execute(sa.insert(_revision).values(id=1, revision=1))
        return True
