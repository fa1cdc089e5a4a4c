"""Ledger records: who writes a ledger, which members hold it, where it ends (protocol rules 2 to 5)."""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa

from fedbus.errors import ConflictError
from fedbus.storage.store.database import Database, Packed, metadata
from fedbus.storage.store.records import Records

LedgerState = Literal["OPEN", "RECOVERING", "CLOSED"]

# OPEN → OPEN is an ensemble change; RECOVERING fences the writer, so nothing leads back from it.
TRANSITIONS: frozenset[tuple[LedgerState, LedgerState]] = frozenset(
    {
        ("OPEN", "OPEN"),
        ("OPEN", "RECOVERING"),
        ("OPEN", "CLOSED"),
        ("RECOVERING", "RECOVERING"),
        ("RECOVERING", "CLOSED"),
    }
)


class Member(msgspec.Struct, frozen=True):
    """A holder of a copy: an instance that comes back with another directory is a stranger."""

    instance: str
    directory_uuid: str


class Fragment(msgspec.Struct, frozen=True):
    """From ``first_offset`` on these members hold every event."""

    first_offset: int
    members: tuple[Member, ...]


_ledgers = sa.Table(
    "ledgers",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("writer", sa.String(64), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("term", sa.BigInteger, nullable=False),
    sa.Column("fragments", Packed(tuple[Fragment, ...]), nullable=False),
    sa.Column("end_offset", sa.BigInteger),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("closed_ns", sa.BigInteger),
    sa.Column("version", sa.BigInteger, nullable=False),
)


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """One ledger; ``end_offset`` (one past its last event) is known once it is CLOSED; ``term`` is the recovery's."""

    id: str
    writer: str
    epoch: int
    fragments: tuple[Fragment, ...]
    created_ns: int
    state: LedgerState = "OPEN"
    term: int = 0
    end_offset: int | None = None
    closed_ns: int | None = None
    version: int = 1


class Ledgers(Records[Ledger]):
    """The ledger records of a region; ``add`` opens one."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, _ledgers, Ledger)

    def change_ensemble(self, ledger: Ledger, fragments: tuple[Fragment, ...]) -> Ledger:
        """Other members from some offset on (rule 4); ConflictError if the ledger is no longer as it was read."""
        return self._step(msgspec.structs.replace(ledger, fragments=fragments), "OPEN")

    def begin_recovery(self, ledger: Ledger) -> Ledger:
        """Fence the writer (rule 5a): no ensemble change succeeds from now on; the term grows with every attempt."""
        return self._step(msgspec.structs.replace(ledger, term=ledger.term + 1), "RECOVERING")

    def close(self, ledger: Ledger, end_offset: int, now_ns: int) -> Ledger:
        """The ledger ends here, for ever (rule 5e, or its writer rolls)."""
        return self._step(msgspec.structs.replace(ledger, end_offset=end_offset, closed_ns=now_ns), "CLOSED")

    def delete(self, ledger: Ledger) -> None:
        """Forget a CLOSED ledger whose events have expired."""
        with self._database.writing() as connection:
            gone = connection.execute(
                sa.delete(_ledgers).where(
                    _ledgers.c.id == ledger.id, _ledgers.c.version == ledger.version, _ledgers.c.state == "CLOSED"
                )
            )
            if gone.rowcount != 1:
                raise ConflictError(f"ledger {ledger.id} is not CLOSED at version {ledger.version}; read it again")

    def _step(self, ledger: Ledger, to: LedgerState) -> Ledger:
        if (ledger.state, to) not in TRANSITIONS:
            raise ConflictError(f"ledger {ledger.id} is {ledger.state} and cannot become {to}")
        return self.swap(msgspec.structs.replace(ledger, state=to))
