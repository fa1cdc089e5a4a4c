"""What comes into the broker core and what it asks of its shell.

The shell (``fedbus_actors.broker_thread``) turns sockets, disk and clock into inputs and executes effects in the order
given. The core never waits: what takes time comes back later as another input.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fedbus.batch import Buffer
from fedbus.broker.copy_effects import CopyEffect, CopyInput
from fedbus.broker.protocol import LinkFilter, Message
from fedbus.broker.record import Record

# -- inputs ------------------------------------------------------------------------------------------------------------


class Received(msgspec.Struct, frozen=True):
    """A message from a session (the ROUTER's routing id): header frame first."""

    session: bytes
    frames: Sequence[Buffer]


class Unroutable(msgspec.Struct, frozen=True):
    """A send to this session found no connection."""

    session: bytes


class Durable(msgspec.Struct, frozen=True):
    """Every record up to and including ``number`` is on disk."""

    number: int
    generation: int = 0


class WriteRefused(msgspec.Struct, frozen=True):
    """Records from ``number`` on were not stored and never will be (disk full).

    Everything written under this generation and not yet durable is void; the writer goes on from the durable end under
    the next generation.
    """

    number: int
    detail: str
    generation: int = 0


class WriteFailed(msgspec.Struct, frozen=True):
    """The ledger can no longer be trusted to take writes (I/O or fsync error): fail-stop, never retried."""

    detail: str


class Records(msgspec.Struct, frozen=True):
    """Answer to a ``Read``: EVENTS records in order, the first one containing (or following) the offset asked for.

    ``next_offset``: where to read on. ``damaged``: how many offsets before ``next_offset`` could not be read.
    """

    token: int
    records: list[Record]
    next_offset: int
    damaged: int = 0


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


class ApplyTable(msgspec.Struct, frozen=True):
    """A routing table from the manager (already encoded, see ``routing/table.py``)."""

    version: int
    data: bytes


class PeerLink(msgspec.Struct, frozen=True):
    """Pull this origin ledger from the instance at ``endpoint``.

    ``wants``: the filters, each with the offset to begin at if this instance has not scanned the ledger for it before.
    """

    ledger: str
    endpoint: str
    wants: list[LinkFilter]


class ApplyLinks(msgspec.Struct, frozen=True):
    """The links this instance is to hold from now on."""

    links: list[PeerLink]


class Adopt(msgspec.Struct, frozen=True):
    """Serve closed ledgers of another instance (its files are at hand): their ends, and its folded state."""

    closed: dict[str, int]
    state: list[tuple[str, Record]]


class PeerReceived(msgspec.Struct, frozen=True):
    """A message from an instance this one dialled."""

    endpoint: str
    frames: Sequence[Buffer]


class Drain(msgspec.Struct, frozen=True):
    """Take no new batches from now on."""


Input = (
    Received
    | Unroutable
    | Durable
    | WriteRefused
    | WriteFailed
    | Records
    | Tick
    | ApplyTable
    | ApplyLinks
    | Adopt
    | PeerReceived
    | Drain
    | CopyInput
)

# -- effects -----------------------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """Send to a session; if there is no such connection, answer with ``Unroutable``."""

    session: bytes
    message: Message
    frames: tuple[Buffer, ...] = ()


class Forget(msgspec.Struct, frozen=True):
    """A session has ended for its silence: what waits to be sent to it is not sent any more."""

    session: bytes


class Write(msgspec.Struct, frozen=True):
    """Append to the ledger being written; answer ``Durable`` (in groups), ``WriteRefused`` or ``WriteFailed``.

    After a ``WriteRefused`` writes of its generation are discarded.
    """

    record: Record
    generation: int = 0


class RollSegment(msgspec.Struct, frozen=True):
    """Seal the segment being written; the next ``Write`` opens another."""


class Read(msgspec.Struct, frozen=True):
    """Read EVENTS records of one of this instance's ledgers from ``offset``; answer ``Records``."""

    token: int
    ledger: str
    offset: int
    max_bytes: int


class Dial(msgspec.Struct, frozen=True):
    """Open a connection to another instance."""

    endpoint: str


class SendPeer(msgspec.Struct, frozen=True):
    """Send to an instance that was dialled."""

    endpoint: str
    message: Message
    frames: tuple[Buffer, ...] = ()


class HangUp(msgspec.Struct, frozen=True):
    """Close the connection to another instance."""

    endpoint: str


Effect = Send | Forget | Write | RollSegment | Read | Dial | SendPeer | HangUp | CopyEffect
