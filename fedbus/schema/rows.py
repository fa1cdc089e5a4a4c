"""What the registry consists of, as rows: schemas by id, versions by subject, compatibility levels.

These are what a :class:`~fedbus.schema.store.SchemaStore` keeps; the registry's state is the fold of them.
"""

from __future__ import annotations

import msgspec

GLOBAL = ""
"""The subject under which the global compatibility level stands; no real subject is empty."""


class SchemaRow(msgspec.Struct, frozen=True):
    """One schema. Never changed and never removed, so an id names one text for ever, also after deletions."""

    id: int
    fingerprint: str
    text: str


class VersionRow(msgspec.Struct, frozen=True):
    """Version ``version`` (from 1) of a subject is schema ``id``; ``deleted`` is Confluent's soft deletion."""

    subject: str
    version: int
    id: int
    deleted: bool = False


class LevelRow(msgspec.Struct, frozen=True):
    """The compatibility level set for a subject or for :data:`GLOBAL`; ``None`` takes the setting away."""

    subject: str
    level: str | None


class Change(msgspec.Struct, frozen=True):
    """One atomic change.

    ``schemas`` are new; ``versions`` are inserted, or replace the row of the same (subject, version); ``removed`` are
    (subject, version) to delete for good; ``levels`` are set or, with ``None``, deleted.
    """

    schemas: tuple[SchemaRow, ...] = ()
    versions: tuple[VersionRow, ...] = ()
    removed: tuple[tuple[str, int], ...] = ()
    levels: tuple[LevelRow, ...] = ()


class Snapshot(msgspec.Struct, frozen=True):
    """All version and level rows at one revision, and the schema rows the reader did not have yet."""

    revision: int
    schemas: tuple[SchemaRow, ...]
    versions: tuple[VersionRow, ...]
    levels: tuple[LevelRow, ...]
