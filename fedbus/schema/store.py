"""Where the registry's rows are kept: the protocol, and an implementation in memory for tests and single processes."""

from __future__ import annotations

from typing import Protocol

from fedbus.schema.rows import Change, LevelRow, SchemaRow, Snapshot, VersionRow


class SchemaStore(Protocol):
    """Durable rows with one revision over all of them, changed by compare-and-swap.

    Several registries (gateway replicas, processes) may share one store; the revision is what keeps them consistent. It
    starts at 0 (nothing was ever written) and grows by exactly one with every change that was committed.

    A relational implementation has four tables::

        schema_revision  (one row)  revision BIGINT NOT NULL
        schemas                     id INTEGER PRIMARY KEY, fingerprint CHAR(64) UNIQUE NOT NULL, text TEXT NOT NULL
        schema_versions             subject VARCHAR(512), version INTEGER, id INTEGER NOT NULL REFERENCES schemas (id),
                                    deleted BOOLEAN NOT NULL, PRIMARY KEY (subject, version)
        schema_levels               subject VARCHAR(512) PRIMARY KEY, level VARCHAR(32) NOT NULL   ("" is global)

    Subjects compare byte for byte (no case folding). All methods block (SQL) and may be called from any thread, one at
    a time per registry; they raise :class:`fedbus.errors.StorageError` or ``UnavailableError`` when the store cannot
    be used. If ``commit`` raises, its outcome is unknown; every command is safe to repeat.
    """

    def revision(self) -> int:
        """The revision of the last committed change. Cheap: asked before every read."""

    def load(self, after_schema_id: int) -> Snapshot:
        """Everything at one revision, read in one transaction, in any order.

        All versions (also deleted ones), all levels, and the schemas whose id is greater than ``after_schema_id`` (0:
        all of them).
        """

    def commit(self, expected_revision: int, change: Change) -> bool:
        """Apply the change if the revision is still ``expected_revision``; otherwise change nothing and return False.

        Rows and the new revision, ``expected_revision + 1``, are one transaction, durable when this returns True.
        The comparison must hold until the commit (``UPDATE … SET revision = revision + 1 WHERE revision = :expected``
        first in the transaction, and no row matched means False). A broken uniqueness of id, fingerprint or (subject,
        version) with a matching revision is a bug of the caller: roll back and raise.
        """


class MemorySchemaStore:
    """The protocol in memory, with its uniqueness rules asserted. Nothing survives the process."""

    def __init__(self) -> None:
        self._revision = 0
        self._schemas: dict[int, SchemaRow] = {}
        self._versions: dict[tuple[str, int], VersionRow] = {}
        self._levels: dict[str, LevelRow] = {}

    def revision(self) -> int:
        """See :class:`SchemaStore`."""
        return self._revision

    def load(self, after_schema_id: int) -> Snapshot:
        """See :class:`SchemaStore`."""
        schemas = tuple(row for row in self._schemas.values() if row.id > after_schema_id)
        return Snapshot(self._revision, schemas, tuple(self._versions.values()), tuple(self._levels.values()))

    def commit(self, expected_revision: int, change: Change) -> bool:
        """See :class:`SchemaStore`."""
        if expected_revision != self._revision:
            return False
        known = {row.fingerprint for row in self._schemas.values()}
        for schema in change.schemas:
            assert schema.id not in self._schemas, f"schema id {schema.id} twice"
            assert schema.fingerprint not in known, f"schema {schema.fingerprint} under two ids"
            self._schemas[schema.id] = schema
        for version in change.versions:
            assert version.id in self._schemas, f"version {version} of a schema that is not there"
            self._versions[version.subject, version.version] = version
        for key in change.removed:
            del self._versions[key]
        for level in change.levels:
            if level.level is None:
                del self._levels[level.subject]
            else:
                self._levels[level.subject] = level
        self._revision += 1
        return True
