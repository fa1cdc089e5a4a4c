"""The messages of the data socket: what DEALERs (clients, links, probes) and an instance's ROUTER say to one another.

A message is a multipart: a MessagePack header (one of the structs here, tagged), then opaque frames. ``Publish`` and
``Deliver`` carry two, a batch's index and payload (see :mod:`fedbus.batch`). Every session begins with ``Hello`` and
its range of protocol versions; the answer names the version both speak. Any number of unknown trailing header fields is
ignored, so that later versions may add some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fedbus.batch import Buffer
from fedbus.errors import ProtocolError
from fedbus.limits import Limits
from fedbus.ranges import Range

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_VERSION = 1


class Start(msgspec.Struct, frozen=True, array_like=True):
    """Where a subscription starts: ``earliest``, ``latest``, ``time`` (``time_ms``) or ``cursor``.

    ``cursor``: next offset per origin ledger; a ledger it does not name starts at its beginning if it is younger than
    the cursor, which is all a ledger unknown to the cursor can be.
    """

    kind: str
    time_ms: int = 0
    cursor: dict[str, int] = {}


EARLIEST = Start("earliest")
LATEST = Start("latest")


class Message(msgspec.Struct, frozen=True, array_like=True, tag=lambda name: name.lower()):
    """Base of all headers."""


# -- from clients, links and probes to an instance ---------------------------------------------------------------------


class Hello(Message, frozen=True):
    """First message of a session. ``kind``: client | gateway | link | probe. ``want_table``: push me routing tables."""

    oldest_version: int
    newest_version: int
    kind: str
    name: str
    region: str = ""
    want_table: bool = False


class Ping(Message, frozen=True):
    """Heartbeat and probe; any message keeps a session alive, this one when there is nothing else to say."""

    nonce: int = 0


class Publish(Message, frozen=True):
    """A batch to store (frames: index, payload).

    ``producer`` and ``sequence`` (one per batch, ascending) make it idempotent within an owner. ``table_version``: the
    routing table the keys were placed by (0 = none). ``unreachable``: owners that did not answer, because of which keys
    come here. ``ledgers``: where a first try of this batch may survive. After a refusal that may be retried
    (``overloaded``, ``storage``) later keyed batches of the producer are refused too until the refused one has come
    again (or a moment has passed), so that order per key holds within a ledger.
    """

    request: int
    producer: str
    sequence: int
    table_version: int = 0
    unreachable: list[str] = []
    ledgers: list[str] = []


class Subscribe(Message, frozen=True):
    """Begin to receive. ``subscription`` is the session's own number for it. With ``group`` durable, else live.

    ``credit`` is how many events may be on their way. A group's filter and start are recorded when first seen; the same
    group with other filters is refused (conflict). ``member`` names this consumer for per-key affinity.
    """

    request: int
    subscription: int
    filters: list[str]
    start: Start
    credit: int
    group: str = ""
    member: str = ""
    ack_deadline_ms: int = 30_000


class LinkFilter(msgspec.Struct, frozen=True, array_like=True):
    """One filter of a link and how far it has been scanned: everything below ``scanned_to`` was forwarded before.

    One that is not ``wanted`` (any more) only says what must not be sent again.
    """

    pattern: str
    scanned_to: int
    wanted: bool = True


class Pull(Message, frozen=True):
    """A link asks for events of one origin ledger that match ``filters`` and were born there (``broker/link.py``)."""

    request: int
    subscription: int
    ledger: str
    filters: list[LinkFilter]
    credit: int


class Unsubscribe(Message, frozen=True):
    """End a subscription of this session; a group's unacknowledged events go to its other members."""

    request: int
    subscription: int


class Credit(Message, frozen=True):
    """Allow that many events more."""

    subscription: int
    events: int


class Settled(msgspec.Struct, frozen=True, array_like=True):
    """Ranges of offsets of one origin ledger."""

    ledger: str
    ranges: list[Range]


class Ack(Message, frozen=True):
    """Acknowledge deliveries of a group. With ``request`` > 0 an ``Ok`` follows when it is durable."""

    subscription: int
    settled: list[Settled]
    request: int = 0


class Nack(Message, frozen=True):
    """Give deliveries back, to be delivered again after ``delay_ms``."""

    subscription: int
    settled: list[Settled]
    delay_ms: int = 0


class Extend(Message, frozen=True):
    """Start the acknowledgement deadline of these deliveries anew."""

    subscription: int
    settled: list[Settled]


class Goodbye(Message, frozen=True):
    """End of the session."""


# -- from an instance --------------------------------------------------------------------------------------------------


class Welcome(Message, frozen=True):
    """The session stands. ``ledger`` is being written; ``publish_window_bytes`` bounds what may be unanswered."""

    version: int
    region: str
    instance: str
    ledger: str
    table_version: int
    session_timeout_ms: int
    publish_window_bytes: int
    limits: Limits


class Pong(Message, frozen=True):
    """Answer to ``Ping``. ``state``: healthy | draining | failed; ``counters`` are totals since start and gauges."""

    nonce: int
    instance: str
    ledger: str
    state: str
    counters: dict[str, int]


class Published(Message, frozen=True):
    """The batch is durable at ``[first_offset, first_offset + count)`` of ``ledger``; ``duplicate``: it already was."""

    request: int
    ledger: str
    first_offset: int
    count: int
    duplicate: bool = False


class Ok(Message, frozen=True):
    """The request was done (for ``Ack``: is durable)."""

    request: int


class Subscribed(Message, frozen=True):
    """The subscription stands at this instance; ``tails``: next offset per origin ledger at that moment."""

    request: int
    subscription: int
    tails: dict[str, int]


class Deliver(Message, frozen=True):
    """Events of one origin ledger (frames: index, payload), at the offsets ``ranges`` (one offset per event, in order).

    ``delivery`` counts from 1. ``next_offset``: where a cursor over this ledger stands after these events.
    ``scanned_from`` is used by links only: the batch answers for all offsets ``[scanned_from, next_offset)``. A deliver
    without events (empty frames) only moves the cursor.
    """

    subscription: int
    ledger: str
    ranges: list[Range]
    next_offset: int
    delivery: int = 1
    scanned_from: int = 0


class Ended(Message, frozen=True):
    """The instance ended a subscription (drain, expiry, changed filter): subscribe again, maybe elsewhere."""

    subscription: int
    code: str
    detail: str


class Refused(Message, frozen=True):
    """A request (0: the message itself) was refused, nothing of it was done. ``code``: one of :mod:`fedbus.errors`."""

    request: int
    code: str
    detail: str
    retryable: bool = False
    retry_after_ms: int = 0


class Table(Message, frozen=True):
    """A new routing table (frame: its bytes, see ``routing/table.py``)."""

    version: int


FromPeer = Hello | Ping | Publish | Subscribe | Pull | Unsubscribe | Credit | Ack | Nack | Extend | Goodbye
FromInstance = Welcome | Pong | Published | Ok | Subscribed | Deliver | Ended | Refused | Table

_encode = msgspec.msgpack.Encoder().encode
_from_peer = msgspec.msgpack.Decoder(FromPeer)
_from_instance = msgspec.msgpack.Decoder(FromInstance)

_FRAMES: dict[type[Message], int] = {Publish: 2, Deliver: 2, Table: 1}


def encode(message: Message) -> bytes:
    """The header frame."""
    return _encode(message)


def decode_from_peer(frames: Sequence[Buffer]) -> FromPeer:
    """Read what a client, link or probe sent; raises :class:`ProtocolError`."""
    message: FromPeer = _checked(_from_peer, frames)
    return message


def decode_from_instance(frames: Sequence[Buffer]) -> FromInstance:
    """Read what an instance sent; raises :class:`ProtocolError`."""
    message: FromInstance = _checked(_from_instance, frames)
    return message


def _checked(decoder: msgspec.msgpack.Decoder[Any], frames: Sequence[Buffer]) -> Any:
    if not frames:
        raise ProtocolError("an empty message")
    try:
        message = decoder.decode(frames[0])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        size = len(frames[0])
        raise ProtocolError(f"{size} bytes that are no header of protocol {PROTOCOL_VERSION}: {error}") from None
    expected = 1 + _FRAMES.get(type(message), 0)
    if len(frames) != expected:
        raise ProtocolError(f"{type(message).__name__.lower()} has {expected} frames, got {len(frames)}")
    return message
