"""Directives as ordered and as settled: what provisioning still has to do survives the manager that ordered it."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from fedbus.control.directive import UNFINISHED, Directive, Step
from fedbus.errors import ConflictError, NotFoundError
from fedbus.storage.store.database import Database, Packed, compare_and_swap, metadata

_directives = sa.Table(
    "directives",
    metadata,
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("region", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("ordered_at_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("directive", Packed(Directive), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class StoredDirectives:
    """All unfinished directives and the newest ``kept`` finished ones."""

    def __init__(self, database: Database, kept: int) -> None:
        self._database = database
        self._kept = kept

    def order(self, directives: Iterable[Directive]) -> None:
        """Store new directives, all or none; ConflictError if one is there already."""
        with self._database.writing() as connection:
            for directive in directives:
                connection.execute(sa.insert(_directives).values(id=directive.id, version=1, **_columns(directive)))
            self._forget(connection)

    def step(
        self, directive_id: str, step: Step, now_ns: int, outcome: str = "", instance: str | None = None
    ) -> Directive:
        """One step of its life, stored; ConflictError if it is not in a state for it, NotFoundError."""
        with self._database.writing() as connection:
            found = connection.execute(sa.select(_directives).where(_directives.c.id == directive_id)).one_or_none()
            if found is None:
                raise NotFoundError(f"directive {directive_id} does not exist")
            before: Directive = found.directive
            try:
                after = before.step(step, now_ns, outcome, instance)
            except AssertionError as error:
                raise ConflictError(str(error)) from error
            compare_and_swap(connection, _directives, {"id": directive_id}, found.version, _columns(after))
            return after

    def unfinished(self, region: str) -> list[Directive]:
        """Directives that provisioning still has to act on, oldest first."""
        table = _directives.c
        statement = (
            sa.select(table.directive)
            .where(table.region == region, table.status.in_(sorted(UNFINISHED)))
            .order_by(table.ordered_at_ns, table.id)
        )
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())

    def recent(self, region: str, count: int) -> list[Directive]:
        """The newest ``count``, newest first."""
        table = _directives.c
        statement = (
            sa.select(table.directive)
            .where(table.region == region)
            .order_by(table.ordered_at_ns.desc(), table.id.desc())
            .limit(count)
        )
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())

    def _forget(self, connection: sa.Connection) -> None:
        table = _directives.c
        finished = table.status.not_in(sorted(UNFINISHED))
        oldest = connection.execute(
            sa.select(table.ordered_at_ns)
            .where(finished)
            .order_by(table.ordered_at_ns.desc())
            .offset(self._kept)
            .limit(1)
        ).scalar_one_or_none()
        if oldest is not None:
            connection.execute(sa.delete(_directives).where(finished, table.ordered_at_ns <= oldest))


def _columns(directive: Directive) -> dict[str, object]:
    return {
        "region": directive.region,
        "status": directive.status,
        "ordered_at_ns": directive.ordered_at_ns,
        "directive": directive,
    }
