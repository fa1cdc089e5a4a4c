"""What comes into the broker core and what it asks of its shell.

The shell (``fedbus_actors.broker_thread``) turns sockets, disk and clock into inputs and executes effects in the order
given. The core never waits: what takes time comes back later as another input.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fedbus.batch import Buffer
from fedbus.broker.copy_effects import CopyEffect, CopyInput
from fedbus.broker.group_spec import GroupRecord, GroupSpec
from fedbus.broker.policies import TopicRule
from fedbus.broker.protocol import LinkFilter, Message
from fedbus.broker.record import Record

# -- inputs ------------------------------------------------------------------------------------------------------------


class Received(msgspec.Struct, frozen=True):
    """A message from a session (the ROUTER's routing id): header frame first.

    ``peer``: the region that its connection has proven to belong to; empty within the own region.
    """

    session: bytes
    frames: Sequence[Buffer]
    peer: str = ""


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
    """Pull this origin ledger from the instance at ``endpoint``, which proves to have the public ``key`` (Z85).

    ``wants``: the filters, each with the offset to begin at if this instance has not scanned the ledger for it before.
    """

    ledger: str
    endpoint: str
    wants: list[LinkFilter]
    key: str = ""


class ApplyLinks(msgspec.Struct, frozen=True):
    """The links this instance is to hold from now on; ``gone``: origin ledgers of which nothing can come any more."""

    links: list[PeerLink]
    gone: list[str] = []


class PeerFollow(msgspec.Struct, frozen=True):
    """Follow these groups at an instance of another region, which proves to have the public ``key`` (Z85)."""

    endpoint: str
    key: str
    groups: tuple[str, ...]


class ApplyFollows(msgspec.Struct, frozen=True):
    """What this instance is to follow from now on; groups may be named that are not known here yet."""

    follows: list[PeerFollow]


class Adopt(msgspec.Struct, frozen=True):
    """Serve closed ledgers of another instance (its files are at hand): their ends, and its folded state."""

    closed: dict[str, int]
    state: list[tuple[str, Record]]


class ApplyTopics(msgspec.Struct, frozen=True):
    """Topic policies from the manager; a version that is not newer is ignored.

    ``auto_create``: whether topics without a policy come to be by their first event.
    """

    version: int
    rules: list[TopicRule]
    auto_create: bool = True


class ApplyCutoffs(msgspec.Struct, frozen=True):
    """Which ledgers are over their policies' size in the region: per filter those whose newest event is no newer."""

    newest_ms: dict[str, int]


class ApplyGroups(msgspec.Struct, frozen=True):
    """All groups as the manager knows them, deleted ones too: what is missing here is made, changed, moved or deleted.

    Repeatable, and older versions change nothing; a group that is not in it is left alone.
    """

    definitions: list[GroupRecord]


class GroupRefused(msgspec.Struct, frozen=True):
    """Answer to ``RequestGroup``: there will be no such group; ``code``: one of :mod:`fedbus.errors`."""

    name: str
    code: str
    detail: str
    retryable: bool = False


class Surveyed(msgspec.Struct, frozen=True):
    """Answer to ``Survey``: when a closed ledger's newest event was written, its topics, its size.

    ``topics``: sorted; filters (``orders.>``) stand for many; ``None``: too many to tell.
    """

    ledger: str
    newest_ms: int
    topics: tuple[str, ...] | None
    size_bytes: int


class PeerReceived(msgspec.Struct, frozen=True):
    """A message from an instance this one dialled."""

    endpoint: str
    frames: Sequence[Buffer]


class Drain(msgspec.Struct, frozen=True):
    """Take no new batches from now on; with ``close`` hand nothing out any more either, and end the open ledger."""

    close: bool = False


Input = (
    Received
    | Unroutable
    | Durable
    | WriteRefused
    | WriteFailed
    | Records
    | Tick
    | ApplyTable
    | ApplyTopics
    | ApplyCutoffs
    | ApplyGroups
    | GroupRefused
    | Surveyed
    | ApplyLinks
    | ApplyFollows
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


class Survey(msgspec.Struct, frozen=True):
    """Say what is in a closed ledger held here: ``Surveyed``; no answer if it is not here (any more)."""

    ledger: str


class RequestGroup(msgspec.Struct, frozen=True):
    """Ask the region's manager for a group that is not known here; ``ApplyGroups`` with it, or ``GroupRefused``.

    Repeated by the core until there is an answer.
    """

    spec: GroupSpec


class Dial(msgspec.Struct, frozen=True):
    """Open a connection to another instance; ``key``: of its region (Z85), empty within the own one (unencrypted)."""

    endpoint: str
    key: str = ""


class SendPeer(msgspec.Struct, frozen=True):
    """Send to an instance that was dialled."""

    endpoint: str
    message: Message
    frames: tuple[Buffer, ...] = ()


class HangUp(msgspec.Struct, frozen=True):
    """Close the connection to another instance."""

    endpoint: str


Effect = Send | Forget | Write | RollSegment | Read | Survey | RequestGroup | Dial | SendPeer | HangUp | CopyEffect
