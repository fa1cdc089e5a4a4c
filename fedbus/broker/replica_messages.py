"""What instances of one region say to one another about copies of ledgers.

Records travel as four frames each: header (with the checksum that the writer computed), meta, index and payload; what
arrives is what lands on the disk. The instance that wants something dials: the writer the other members, a member with
gaps whoever may hold what it lacks.
"""

from __future__ import annotations

from fedbus.broker.message import Message

RECORD_FRAMES = 4


class Append(Message, frozen=True):
    """From the writer to a member (frames: records from ``number`` on, in order; maybe none).

    ``confirmed``: so many records of the ledger are confirmed. Below its ``term`` a member takes nothing.
    """

    ledger: str
    term: int
    number: int
    confirmed: int


class Fetch(Message, frozen=True):
    """Send me records of all kinds of this ledger from ``number`` on, up to ``max_bytes`` (at least one)."""

    request: int
    ledger: str
    number: int
    max_bytes: int


class Appended(Message, frozen=True):
    """Answer to ``Append``: every record up to and including ``number`` is on disk here (-1: none)."""

    ledger: str
    number: int


class AppendRefused(Message, frozen=True):
    """Answer to ``Append``: nothing of it was taken.

    ``code``: fenced (the ledger was taken from its writer) | gap (send from ``next_number`` on) | unknown (no record
    says that this is a member; it may be on its way) | failed (the disk takes nothing).
    """

    ledger: str
    code: str
    next_number: int = 0
    detail: str = ""


class Fetched(Message, frozen=True):
    """Answer to ``Fetch`` (frames: records in order; maybe none): read on at ``next_number``.

    Numbers below ``next_number`` that did not come are damaged, or not held here.
    """

    request: int
    ledger: str
    number: int
    next_number: int
