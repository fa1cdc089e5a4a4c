"""A ledger's record in its region's store, and what an instance says it holds of a ledger (protocol rules 2 to 6).

The store's compare-and-swap decides; the manager pushes every new version to the instances concerned, which keep the
newest they saw beside the ledger's files and refuse older ones (rule 8). Records are counted in *record numbers*: they
cover acknowledgements and snapshots as well as events.
"""

from __future__ import annotations

from typing import Literal

import msgspec

LedgerState = Literal["OPEN", "RECOVERING", "CLOSED", "EXPIRED"]

# OPEN → OPEN is an ensemble change, CLOSED → CLOSED moves copies or the dispatcher, EXPIRED lets every holder delete
# its files; nothing leads back.
TRANSITIONS: frozenset[tuple[LedgerState, LedgerState]] = frozenset(
    {
        ("OPEN", "OPEN"),
        ("OPEN", "RECOVERING"),
        ("OPEN", "CLOSED"),
        ("RECOVERING", "RECOVERING"),
        ("RECOVERING", "CLOSED"),
        ("CLOSED", "CLOSED"),
        ("CLOSED", "EXPIRED"),
    }
)


class Member(msgspec.Struct, frozen=True, order=True):
    """A holder of a copy: ``instance`` is ``region/id``; one that comes back with another directory is a stranger."""

    instance: str
    directory_uuid: str


class Fragment(msgspec.Struct, frozen=True):
    """From record ``first_number`` on (up to the next fragment) these members hold every acknowledged record.

    ``first_offset``: the offset of the first event there.
    """

    first_number: int
    members: tuple[Member, ...]
    first_offset: int = 0


class LedgerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One ledger.

    ``term`` grows with every recovery; ``end_number`` and ``end_offset`` (one past the last record, the last event) are
    known once it is CLOSED; ``dispatcher`` (``region/id``) alone hands its events to groups and links, as long
    as it has the directory ``dispatcher_uuid`` (empty: any), where its acknowledgements are. A CLOSED ledger
    has one fragment, from 0: the members that hold, or still have to fetch, all of it.
    """

    id: str
    writer: Member
    fragments: tuple[Fragment, ...]
    dispatcher: str
    dispatcher_uuid: str = ""
    state: LedgerState = "OPEN"
    term: int = 0
    version: int = 1
    end_number: int | None = None
    end_offset: int | None = None
    created_ns: int = 0
    closed_ns: int | None = None

    @property
    def last(self) -> Fragment:
        """The fragment being written (or recovered)."""
        return self.fragments[-1]

    @property
    def members(self) -> tuple[Member, ...]:
        """Everybody who holds some of it, each once."""
        return tuple(sorted({member for fragment in self.fragments for member in fragment.members}))


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance holds of a ledger, durably.

    ``version``, ``term``: of the newest record it has noted on disk. It has the records ``[first_number, end_number)``
    (``first_number`` 0: from the beginning) and ends at ``end_offset``; it knows that ``confirmed`` records are
    confirmed. ``serving``: it dispatches this ledger. ``damaged``: records in that range that cannot be read.
    ``cut``: whatever lay beyond a CLOSED ledger's end is gone. ``torn``: when it was found, its end was an unfinished
    record, so that it may have held more.
    """

    ledger: str
    version: int
    term: int
    first_number: int
    end_number: int
    end_offset: int
    confirmed: int
    serving: bool = False
    damaged: int = 0
    cut: bool = False
    torn: bool = False

    def complete(self, record: LedgerRecord) -> bool:
        """Whether this is a whole copy of a CLOSED ledger."""
        return self.first_number == 0 and self.end_number == record.end_number and not self.damaged
