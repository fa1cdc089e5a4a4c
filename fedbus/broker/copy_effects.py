"""What replication adds to the inputs and effects of the broker core: copies, ledger records, requests to the manager.

A *copy* is what this instance holds of a ledger: of another's, and of its own earlier ones. The same rules as in
``effects.py``: effects are carried out in order, what takes time comes back as an input.
"""

from __future__ import annotations

import msgspec

from fedbus.broker.record import Record
from fedbus.ledger_record import LedgerRecord
from fedbus.ranges import Range

# -- inputs ------------------------------------------------------------------------------------------------------------


class ApplyLedgers(msgspec.Struct, frozen=True):
    """Ledger records from the store that concern this instance (as writer, member or dispatcher), newest versions.

    Declarative and repeatable: what is not newer than what is known is ignored. ``endpoints``: of the instances named
    in them, ``region/id`` → data socket; one that is missing is not running.
    """

    records: list[LedgerRecord]
    endpoints: dict[str, str]


class ReviewEnsemble(msgspec.Struct, frozen=True):
    """The manager would like other members for the open ledger: freeze and ask for them (``EnsembleChange``)."""

    ledger: str


class RequestRefused(msgspec.Struct, frozen=True):
    """The manager could not do what a ``Request`` asked: go on as before and ask again when it is still needed."""

    ledger: str
    detail: str


class LedgerBegun(msgspec.Struct, frozen=True):
    """Answer to ``BeginLedger``: its files are there, ``Write`` goes to it from now on."""

    ledger: str


class BeginRefused(msgspec.Struct, frozen=True):
    """Answer to ``BeginLedger``: the disk refused; the ledger before is still the one being written."""

    ledger: str
    detail: str


class CopyDurable(msgspec.Struct, frozen=True):
    """Every record of this copy that was handed over, up to and including ``number``, is on disk."""

    ledger: str
    number: int


class CopyRefused(msgspec.Struct, frozen=True):
    """Records of this copy from ``number`` on were not stored; it stands at its durable end and can be appended to."""

    ledger: str
    number: int
    detail: str


class CopyFailed(msgspec.Struct, frozen=True):
    """A copy takes no writes any more (I/O or fsync error, never retried); what is durable in it can be read."""

    ledger: str
    detail: str


class Noted(msgspec.Struct, frozen=True):
    """Answer to ``Note`` and ``Cut``: this record version is on disk (and the copy cut to its end, if it is CLOSED)."""

    ledger: str
    version: int


class RawRecords(msgspec.Struct, frozen=True):
    """Answer to ``ReadRaw``: records of all kinds in order of their numbers; read on at ``next_number``.

    ``damaged``: how many of the numbers before ``next_number`` cannot be read.
    """

    token: int
    records: list[Record]
    next_number: int
    damaged: int = 0


class StateRead(msgspec.Struct, frozen=True):
    """Answer to ``ReadState``: the ledgers with their ends, and the records from the newest snapshot on.

    ``damaged``: something there could not be read (``Scrubbed`` tells what).
    """

    closed: dict[str, int]
    state: list[tuple[str, Record]]
    damaged: bool = False


class Scrubbed(msgspec.Struct, frozen=True):
    """The scrubber has read a ledger through: these record numbers (half-open ranges) cannot be read; empty: sound."""

    ledger: str
    damaged: list[Range]


CopyInput = (
    ApplyLedgers
    | ReviewEnsemble
    | RequestRefused
    | LedgerBegun
    | BeginRefused
    | CopyDurable
    | CopyRefused
    | CopyFailed
    | Noted
    | RawRecords
    | StateRead
    | Scrubbed
)

# -- effects -----------------------------------------------------------------------------------------------------------


class BeginLedger(msgspec.Struct, frozen=True):
    """Seal the open ledger (nothing of it is under way) and create this one; ``LedgerBegun`` or ``BeginRefused``."""

    ledger: str


class WriteCopy(msgspec.Struct, frozen=True):
    """Append to a copy held here: behind the end of one of its runs, or as the beginning of a new run.

    A copy has at most two runs: what is being appended at its end, and what is being backfilled from 0 on until it
    meets the other. Answered by ``CopyDurable`` (in groups), ``CopyRefused`` or ``CopyFailed``.
    """

    ledger: str
    record: Record


class Repair(msgspec.Struct, frozen=True):
    """Put sound records, fetched from another holder, in the place of damaged ones; answered by ``Scrubbed``."""

    ledger: str
    records: list[Record]


class Note(msgspec.Struct, frozen=True):
    """Keep this record, durably, beside the ledger's files; one that is CLOSED cuts what lies beyond its end first.

    What is cut is set aside (quarantine), not deleted. Answered by ``Noted``.
    """

    record: LedgerRecord


class DropLedger(msgspec.Struct, frozen=True):
    """Delete the files of a ledger (retention has passed, or this copy is no longer wanted). No answer."""

    ledger: str


class ReadRaw(msgspec.Struct, frozen=True):
    """Read records of all kinds of a ledger held here, from ``number`` on; answer ``RawRecords``."""

    token: int
    ledger: str
    number: int
    max_bytes: int


class ReadState(msgspec.Struct, frozen=True):
    """Read what a predecessor remembered from the newest of these closed copies; answer ``StateRead``.

    ``ledgers``: oldest first, all complete here and cut.
    """

    ledgers: list[str]


class Request(msgspec.Struct, frozen=True):
    """Ask the region's manager for a change in the store; the answer is ``ApplyLedgers`` or ``RequestRefused``.

    Lost requests are repeated by the core. ``ledger``: the one it is about.

    - ``open``: this instance needs a ledger to write (its first, or because the present one, ``writing``, is to be
      rolled); ``ledger`` is the name it proposes.
    - ``ensemble``: other members from ``first_number`` (event offset ``first_offset``) on, ``silent`` ones replaced.
      Nothing from ``first_number`` on is acknowledged until the answer.
    - ``close``: nothing is under way, the ledger ends at ``end_number``, ``end_offset``.
    """

    kind: str
    ledger: str
    version: int = 0
    first_number: int = 0
    first_offset: int = 0
    silent: tuple[str, ...] = ()
    end_number: int = 0
    end_offset: int = 0
    writing: str = ""


CopyEffect = BeginLedger | WriteCopy | Repair | Note | DropLedger | ReadRaw | ReadState | Request
