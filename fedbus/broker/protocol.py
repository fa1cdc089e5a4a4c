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
from fedbus.broker.follow_messages import Follow as Follow
from fedbus.broker.follow_messages import FollowedGroup as FollowedGroup
from fedbus.broker.follow_messages import Shared as Shared
from fedbus.broker.follow_messages import Taken as Taken
from fedbus.broker.group_options import GroupOptions as GroupOptions
from fedbus.broker.judge_messages import FORGOTTEN as FORGOTTEN
from fedbus.broker.judge_messages import NOT_STORED as NOT_STORED
from fedbus.broker.judge_messages import STORED as STORED
from fedbus.broker.judge_messages import WAITING as WAITING
from fedbus.broker.judge_messages import Judged as Judged
from fedbus.broker.judge_messages import Reject as Reject
from fedbus.broker.judge_messages import Try as Try
from fedbus.broker.message import Message as Message
from fedbus.broker.replica_messages import RECORD_FRAMES
from fedbus.broker.replica_messages import Append as Append
from fedbus.broker.replica_messages import Appended as Appended
from fedbus.broker.replica_messages import AppendRefused as AppendRefused
from fedbus.broker.replica_messages import Fetch as Fetch
from fedbus.broker.replica_messages import Fetched as Fetched
from fedbus.broker.settled import Settled as Settled
from fedbus.broker.slot_messages import AskSlots as AskSlots
from fedbus.broker.slot_messages import SlotsOpen as SlotsOpen
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


class Tried(msgspec.Struct, frozen=True, array_like=True):
    """Where an earlier try of a batch may survive: in this ledger (or its writer's next), under this sequence."""

    ledger: str
    sequence: int


class Publish(Message, frozen=True):
    """A batch to store (frames: index, payload).

    ``producer`` and ``sequence`` (one per batch, ascending) make it idempotent within an owner. ``table_version``: the
    routing table of the instance's own region by which the keys were placed (0 = none, or another region's, whose
    number says nothing here). ``unreachable``: owners that did not answer, because of which keys come here. ``tried``:
    where earlier tries of its events may survive; ``attempt`` grows whenever it goes to another owner, so that of all
    its copies the lowest counts. With ``idempotent`` this copy is withheld until it is certain that no other counts
    (``broker/withheld.py``); without it is dispatched as a possible duplicate. ``order``: its place among the
    producer's batches (0: as ``sequence``; a part of a batch has that of the whole). After a refusal that may be
    retried (``overloaded``, ``storage``) later keyed batches of the producer are refused too until the refused one has
    come again (or a moment has passed), so that order per key holds within a ledger.
    """

    request: int
    producer: str
    sequence: int
    table_version: int = 0
    unreachable: list[str] = []
    tried: list[Tried] = []
    attempt: int = 0
    idempotent: bool = False
    order: int = 0


class Subscribe(Message, frozen=True):
    """Begin to receive. ``subscription`` is the session's own number for it. With ``group`` durable, else live.

    ``credit`` is how many events may be on their way. A group's filter, start and options are recorded when first seen;
    the same group with other filters is refused (conflict). ``member`` names this consumer for per-key affinity; of one
    name only the newest session is a member.
    """

    request: int
    subscription: int
    filters: list[str]
    start: Start
    credit: int
    group: str = ""
    member: str = ""
    options: GroupOptions = GroupOptions()


class LinkFilter(msgspec.Struct, frozen=True, array_like=True):
    """One filter of a link and how far it has been scanned: everything below ``scanned_to`` was forwarded before.

    One that is not ``wanted`` (any more) only says what must not be sent again. ``since``: from where on it was scanned
    at all; what is before that the receiver does not have for its sake.
    """

    pattern: str
    scanned_to: int
    wanted: bool = True
    since: int = 0


class Pull(Message, frozen=True):
    """A link asks for events of one origin ledger that match ``filters`` and were born there (``broker/link.py``).

    ``durable_to``: everything wanted below this offset (of a filter: from its ``since`` on) is durable in the region
    that asks. ``window_bytes``: how much may be under way (0: as the origin likes). ``until``: it ends there (0: it
    does not end).
    """

    request: int
    subscription: int
    ledger: str
    filters: list[LinkFilter]
    credit: int
    durable_to: int = 0
    window_bytes: int = 0
    until: int = 0


class Unsubscribe(Message, frozen=True):
    """End a subscription of this session; a group's unacknowledged events go to its other members."""

    request: int
    subscription: int


class Credit(Message, frozen=True):
    """Allow that many events more; of a member of a group a negative number takes back what it has not used.

    From a link ``durable_to``: everything wanted below this offset is durable there (-1: nothing is said of that).
    """

    subscription: int
    events: int
    durable_to: int = -1


class Ack(Message, frozen=True):
    """Acknowledge deliveries of a group. With ``request`` > 0 an ``Ok`` follows when it is durable."""

    subscription: int
    settled: list[Settled]
    request: int = 0


class Nack(Message, frozen=True):
    """Give deliveries back, to be delivered again after ``delay_ms`` (-1: as the group's back-off says).

    ``dead_letter``: a reason for which they are not delivered again, but go to the dead-letter topic at once.
    """

    subscription: int
    settled: list[Settled]
    delay_ms: int = -1
    dead_letter: str = ""


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


class FirstCopy(msgspec.Struct, frozen=True, array_like=True):
    """The event at this place of the batch had been stored before, there (topics with a dedup window)."""

    place: int
    ledger: str
    offset: int


class Published(Message, frozen=True):
    """The batch is durable at ``[first_offset, first_offset + count)`` of ``ledger``; ``duplicate``: it already was.

    ``first_copies``: its events that are not among these, because their source and id had been seen, ascending by
    place. ``as_sequence``: what is durable is the earlier try of that sequence, which holds these events among its
    ``count`` (-1: the batch itself).
    """

    request: int
    ledger: str
    first_offset: int
    count: int
    duplicate: bool = False
    first_copies: list[FirstCopy] = []
    as_sequence: int = -1


class Ok(Message, frozen=True):
    """The request was done (for ``Ack``: is durable)."""

    request: int


class Subscribed(Message, frozen=True):
    """The subscription stands at this instance; ``tails``: next offset per origin ledger at that moment.

    ``identity`` of a group: (created, generation). If it is another than before (deleted, moved), deliveries from
    before are void and must not be settled any more.
    """

    request: int
    subscription: int
    tails: dict[str, int]
    identity: tuple[int, int] = (0, 0)


class Deliver(Message, frozen=True):
    """Events of one origin ledger (frames: index, payload), at the offsets ``ranges`` (one offset per event, in order).

    ``delivery`` counts from 1. ``next_offset``: where a cursor over this ledger stands after these events.
    ``scanned_from`` is used by links only: the batch answers for all offsets ``[scanned_from, next_offset)``. A deliver
    without events (empty frames) only moves the cursor. ``flags``: see :data:`POSSIBLE_DUPLICATE`. ``time_ms``: when
    the origin stored them (links only).
    """

    subscription: int
    ledger: str
    ranges: list[Range]
    next_offset: int
    delivery: int = 1
    scanned_from: int = 0
    flags: int = 0
    time_ms: int = 0


POSSIBLE_DUPLICATE = 1  # a flag of Deliver: an earlier try of these events may have been delivered too


class Ended(Message, frozen=True):
    """The instance ended a subscription; subscribe again (a group was moved), or not (``not_found``: deleted).

    ``region``: where the group is at home now (``group_elsewhere``).
    """

    subscription: int
    code: str
    detail: str
    region: str = ""


class Refused(Message, frozen=True):
    """A request (0: the message itself) was refused, nothing of it was done. ``code``: one of :mod:`fedbus.errors`.

    ``region``: where the group is at home (``group_elsewhere``).
    """

    request: int
    code: str
    detail: str
    retryable: bool = False
    retry_after_ms: int = 0
    region: str = ""


class Table(Message, frozen=True):
    """A new routing table (frame: its bytes, see ``routing/table.py``)."""

    version: int


FromPeer = (
    Hello | Ping | Publish | Subscribe | Pull | Unsubscribe | Credit | Ack | Nack | Extend | Reject | AskSlots | Goodbye
    | Append | Fetch | Follow | Taken
)  # fmt: skip
FromInstance = (
    Welcome | Pong | Published | Ok | Subscribed | Deliver | Ended | Refused | Judged | SlotsOpen | Table
    | Appended | AppendRefused | Fetched | Shared
)  # fmt: skip

_encode = msgspec.msgpack.Encoder().encode
_from_peer = msgspec.msgpack.Decoder(FromPeer)
_from_instance = msgspec.msgpack.Decoder(FromInstance)

_FRAMES: dict[type[Message], int] = {Publish: 2, Deliver: 2, Table: 1}
_OF_RECORDS = frozenset({Append, Fetched})


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
    if len(frames) != expected and (type(message) not in _OF_RECORDS or len(frames) % RECORD_FRAMES != 1):
        raise ProtocolError(f"{type(message).__name__.lower()} has {expected} frames, got {len(frames)}")
    return message
