"""What can be asked of the registry that changes it.

Each command decides against a state, without side effect: it returns its result and the change to commit (``None`` when
there is nothing to do), or raises a ``RegistryError``. The registry commits and, if somebody else was faster, asks
again. A repeated registration or setting finds its work done; a repeated deletion is refused and does no harm.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

import msgspec

from fedbus.schema.document import SchemaDocument, check_schema_type, parse_document
from fedbus.schema.naming import check_subject
from fedbus.schema.refusal import (
    compatibility_not_configured,
    invalid_compatibility,
    not_permitted,
    subject_not_found,
    subject_not_soft_deleted,
    subject_soft_deleted,
    version_not_soft_deleted,
    version_soft_deleted,
)
from fedbus.schema.rows import GLOBAL, Change, LevelRow, SchemaRow, VersionRow
from fedbus.schema.state import RegistryState, SubjectVersion, Which
from fedbus.schema.validation import Validator

LEVELS = ("NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE")
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Command(Protocol[ResultT_co]):
    """One way of changing the registry."""

    def decide(self, state: RegistryState) -> tuple[ResultT_co, Change | None]:
        """The result, and what has to be committed before it holds."""


class Registered(NamedTuple):
    """Where a schema now stands; ``created`` is False if the subject already had it."""

    version: SubjectVersion
    created: bool


class Register:
    """Make a schema the newest version of a subject, unless one of its living versions is that schema already.

    Raises 42201 (type or schema), 42208 (subject), 42209 (size). Checked once, here, not on every attempt to commit.
    """

    def __init__(self, subject: str, schema_type: str | None, schema_text: str) -> None:
        self.subject = check_subject(subject)
        check_schema_type(schema_type)
        self.document: SchemaDocument = parse_document(schema_text)
        Validator(self.document)

    def decide(self, state: RegistryState) -> tuple[Registered, Change | None]:
        """Version = newest ever + 1 (deleted ones count); id = the one this text has, else a new one."""
        rows = state.versions(self.subject, Which.ALL)
        schema_id = state.id_of(self.document.fingerprint)
        for row in reversed(rows):
            if row.id == schema_id and not row.deleted:
                return Registered(state.with_text(row), created=False), None
        new: tuple[SchemaRow, ...] = ()
        if schema_id is None:
            schema_id = state.last_schema_id + 1
            new = (SchemaRow(schema_id, self.document.fingerprint, self.document.text),)
        row = VersionRow(self.subject, rows[-1].version + 1 if rows else 1, schema_id)
        text = self.document.text if new else state.stored_text(schema_id)
        result = Registered(SubjectVersion(self.subject, row.version, schema_id, text), created=True)
        return result, Change(schemas=new, versions=(row,))


class DeleteSubject(msgspec.Struct, frozen=True):
    """Delete all versions; ``permanent`` removes what was deleted before. The result is the versions concerned."""

    subject: str
    permanent: bool = False

    def decide(self, state: RegistryState) -> tuple[list[int], Change | None]:
        """Raises 40401, 40404 (again without ``permanent``), 40405 (``permanent`` while something lives)."""
        subject = check_subject(self.subject)
        rows = state.versions(subject, Which.ALL)
        living = [row for row in rows if not row.deleted]
        if not rows:
            raise subject_not_found(subject)
        if self.permanent:
            if living:
                raise subject_not_soft_deleted(subject)
            levels = (LevelRow(subject, None),) if state.has_level(subject) else ()
            removed = tuple((subject, row.version) for row in rows)
            return [row.version for row in rows], Change(removed=removed, levels=levels)
        if not living:
            raise subject_soft_deleted(subject)
        deleted = tuple(VersionRow(subject, row.version, row.id, deleted=True) for row in living)
        return [row.version for row in living], Change(versions=deleted)


class DeleteVersion(msgspec.Struct, frozen=True):
    """Delete one version (``LATEST``: the newest); the result is its number."""

    subject: str
    version: int
    permanent: bool = False

    def decide(self, state: RegistryState) -> tuple[int, Change | None]:
        """Raises 40401, 40402, 40406 (again without ``permanent``), 40407 (``permanent`` while it lives)."""
        subject = check_subject(self.subject)
        row = state.version(subject, self.version, Which.ALL)
        if self.permanent:
            if not row.deleted:
                raise version_not_soft_deleted(subject, row.version)
            return row.version, Change(removed=((subject, row.version),))
        if row.deleted:
            raise version_soft_deleted(subject, row.version)
        return row.version, Change(versions=(VersionRow(subject, row.version, row.id, deleted=True),))


class SetLevel(msgspec.Struct, frozen=True):
    """Set the compatibility level of a subject or of all (:data:`GLOBAL`); the result is the level.

    Schemas are not checked against earlier versions yet. A level that promises such a check is therefore refused rather
    than stored and ignored: the only level that can be set, and the default, is ``NONE``.
    """

    subject: str
    level: str

    def decide(self, state: RegistryState) -> tuple[str, Change | None]:
        """Raises 42203 for a word that is no level, 42205 for a level other than ``NONE``."""
        subject = check_subject(self.subject) if self.subject != GLOBAL else GLOBAL
        level = self.level.upper()
        if level not in LEVELS:
            raise invalid_compatibility(self.level, LEVELS)
        if level != "NONE":
            raise not_permitted(
                f"Compatibility level {level} is not available: this registry does not check the evolution of schemas "
                "yet and takes every valid one (NONE). Compare new versions before registering them"
            )
        if state.has_level(subject) and state.level(subject) == level:
            return level, None
        return level, Change(levels=(LevelRow(subject, level),))


class ClearLevel(msgspec.Struct, frozen=True):
    """Take a setting away, so that the default (for a subject: the global level) holds; the result is what was set."""

    subject: str

    def decide(self, state: RegistryState) -> tuple[str, Change | None]:
        """Raises 40408 if the subject has no level of its own."""
        subject = check_subject(self.subject) if self.subject != GLOBAL else GLOBAL
        if not state.has_level(subject):
            if subject != GLOBAL:
                raise compatibility_not_configured(subject)
            return state.level(), None
        return state.level(subject), Change(levels=(LevelRow(subject, None),))
