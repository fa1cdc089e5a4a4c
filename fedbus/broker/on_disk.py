"""What an instance's shell finds on its disk when it starts: for each ledger the records that are there.

The core takes it over once and keeps it up to date from what the shell answers (``CopyDurable``, ``Noted``, …).
"""

from __future__ import annotations

import msgspec

from fedbus.ledger_record import LedgerRecord
from fedbus.ranges import Range


class HeldRun(msgspec.Struct, frozen=True):
    """Records ``[first_number, end_number)`` with the events ``[first_offset, end_offset)`` of one ledger."""

    first_number: int
    first_offset: int
    end_number: int
    end_offset: int


class OnDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One ledger as it lies in an instance's directory: one of its own, or a copy of another's.

    ``record``: the newest one noted beside it; ``None`` if there is none, or none that can be trusted. ``runs`` are in
    order, with something missing between them. ``confirmed``: that many records are known to be confirmed, by any
    record here or by the noted one; where it exceeds the last run's end, confirmed records have been lost.
    ``damaged``: record numbers inside the runs that cannot be read. ``torn``: an unfinished record was behind the end
    and has been set aside. ``newest_ms``: time of the newest event; ``topics``
    of all events, ``None`` if they are too many to say.
    """

    ledger: str
    record: LedgerRecord | None = None
    runs: tuple[HeldRun, ...] = ()
    confirmed: int = 0
    damaged: tuple[Range, ...] = ()
    torn: bool = False
    size_bytes: int = 0
    newest_ms: int = 0
    topics: tuple[str, ...] | None = ()
