"""The registry's state: the fold of its rows, and every question that can be asked of it.

Only :class:`~fedbus.schema.registry.Registry` folds; everybody else reads. Deleted versions stay in the state until
they are removed for good, as in Confluent's registry: invisible unless asked for, their ids still readable.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from fedbus.schema.refusal import (
    compatibility_not_configured,
    schema_not_found,
    subject_not_found,
    version_not_found,
)
from fedbus.schema.rows import GLOBAL, SchemaRow, Snapshot, VersionRow

LATEST = -1
DEFAULT_LEVEL = "NONE"


class Which(Enum):
    """Which versions a question is about."""

    LIVING = "living"
    ALL = "all"
    DELETED = "deleted"

    def takes(self, row: VersionRow) -> bool:
        """Whether this row is meant."""
        return self is Which.ALL or row.deleted == (self is Which.DELETED)


class SubjectVersion(NamedTuple):
    """A version together with its schema; what answers and pushes carry."""

    subject: str
    version: int
    id: int
    text: str


class RegistryState:
    """Subjects, versions, ids and levels at one revision."""

    def __init__(self) -> None:
        self.revision = 0
        self.last_schema_id = 0
        self._schemas: dict[int, SchemaRow] = {}
        self._id_of: dict[str, int] = {}
        self._versions: dict[str, list[VersionRow]] = {}  # per subject, ascending
        self._uses: dict[int, list[VersionRow]] = {}
        self._levels: dict[str, str] = {}

    def fold(self, snapshot: Snapshot) -> None:
        """Become what the snapshot says; schemas already known stay."""
        for schema in snapshot.schemas:
            self._schemas[schema.id] = schema
            self._id_of[schema.fingerprint] = schema.id
            self.last_schema_id = max(self.last_schema_id, schema.id)
        versions: dict[str, list[VersionRow]] = {}
        uses: dict[int, list[VersionRow]] = {}
        for row in sorted(snapshot.versions, key=_place):
            versions.setdefault(row.subject, []).append(row)
            uses.setdefault(row.id, []).append(row)
        self._versions, self._uses = versions, uses
        self._levels = {row.subject: row.level for row in snapshot.levels if row.level is not None}
        self.revision = snapshot.revision

    def subjects(self, which: Which = Which.LIVING, prefix: str = "") -> list[str]:
        """Names in order; a subject counts as deleted when all its versions are."""
        gone = {name: all(row.deleted for row in rows) for name, rows in self._versions.items()}
        wanted = (name for name in gone if which is Which.ALL or gone[name] == (which is Which.DELETED))
        return [name for name in wanted if name.startswith(prefix)]

    def versions(self, subject: str, which: Which = Which.LIVING) -> list[VersionRow]:
        """Rows of a subject in order, possibly none."""
        return [row for row in self._versions.get(subject, ()) if which.takes(row)]

    def version(self, subject: str, version: int, which: Which = Which.LIVING) -> VersionRow:
        """One version, :data:`LATEST` for the newest; ``RegistryError`` 40401 or 40402 if it is not there."""
        rows = self.versions(subject, which)
        if not rows:
            raise subject_not_found(subject)
        if version == LATEST:
            return rows[-1]
        for row in rows:
            if row.version == version:
                return row
        raise version_not_found(version)

    def find(self, subject: str, fingerprint: str, which: Which = Which.LIVING) -> VersionRow:
        """The newest version of the subject that is this schema; ``RegistryError`` 40401 or 40403 if there is none."""
        rows = self.versions(subject, which)
        if not rows:
            raise subject_not_found(subject)
        wanted = self._id_of.get(fingerprint)
        for row in reversed(rows):
            if row.id == wanted:
                return row
        raise schema_not_found()

    def id_of(self, fingerprint: str) -> int | None:
        """The id of a canonical text, if it ever had one."""
        return self._id_of.get(fingerprint)

    def stored_text(self, schema_id: int) -> str:
        """The text of an id from :meth:`id_of`, also when no version uses it any more."""
        return self._schemas[schema_id].text

    def text(self, schema_id: int) -> str:
        """The schema with this id; ``RegistryError`` 40403 if no version, living or deleted, uses it."""
        if schema_id not in self._uses:
            raise schema_not_found(schema_id)
        return self._schemas[schema_id].text

    def uses(self, schema_id: int, which: Which = Which.LIVING) -> list[VersionRow]:
        """The versions that are this schema; ``RegistryError`` 40403 if there is no such schema."""
        if schema_id not in self._uses:
            raise schema_not_found(schema_id)
        return [row for row in self._uses[schema_id] if which.takes(row)]

    def level(self, subject: str = GLOBAL, *, default_to_global: bool = False) -> str:
        """The compatibility level; a subject without its own raises 40408, or has the global one if asked so."""
        own = self._levels.get(subject)
        if own is not None:
            return own
        if subject == GLOBAL or default_to_global:
            return self._levels.get(GLOBAL, DEFAULT_LEVEL)
        raise compatibility_not_configured(subject)

    def has_level(self, subject: str) -> bool:
        """Whether a level is set for exactly this subject."""
        return subject in self._levels

    def with_text(self, row: VersionRow) -> SubjectVersion:
        """A version row joined with its schema."""
        return SubjectVersion(row.subject, row.version, row.id, self._schemas[row.id].text)

    def latest(self) -> dict[str, SubjectVersion]:
        """The newest living version of every subject: what gateways and clients validate against."""
        newest: dict[str, VersionRow] = {}
        for subject, rows in self._versions.items():
            living = [row for row in rows if not row.deleted]
            if living:
                newest[subject] = living[-1]
        return {subject: self.with_text(row) for subject, row in newest.items()}


def _place(row: VersionRow) -> tuple[str, int]:
    return row.subject, row.version
