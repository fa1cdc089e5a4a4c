"""What the managers of two regions say to each other, and its bytes.

Every message travels in an :class:`Envelope` that says who speaks, under which generation (a manager's epoch: the word
of a newer one wins), in msgpack. Nothing here is trusted: decoding raises :class:`ProtocolError`, and whether the
sender is who it claims to be is asked of the connection's key.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fedbus.broker.group_spec import GroupRecord
from fedbus.control.summary import RegionSummary
from fedbus.errors import ProtocolError, TooLargeError

VERSION = 1
OLDEST_VERSION = 1
MOST_BYTES = 16 * 2**20
"""Of one message: a summary with all ledgers, a part of the groups, or a page of a resource."""


class Echo(msgspec.Struct, frozen=True, array_like=True):
    """The newest report that was heard of the receiver, and how long ago (ns, sender's clock)."""

    generation: int
    sequence: int
    held_ns: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """The sender's summary (``None`` while it has none yet); ``sequence`` grows within a generation.

    ``echo``: what it last heard of the receiver, so that each knows whether it is heard, and how long the way is.
    """

    sequence: int
    echo: Echo | None = None
    summary: RegionSummary | None = None


class Groups(msgspec.Struct, frozen=True, tag="groups"):
    """Definitions of groups: one that has just changed, or some of all that the sender has."""

    records: list[GroupRecord]


class Request(msgspec.Struct, frozen=True, tag="request"):
    """Ask the receiver's manager; ``call`` is never used twice within a generation."""

    call: int
    method: str
    arguments: list[Any] = []


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The answer to ``call``, asked under ``generation``; with ``code`` (of :mod:`fedbus.errors`) it failed."""

    generation: int
    call: int
    value: Any = None
    code: str = ""
    detail: str = ""
    retry_after_ms: int = 0


Message = Report | Groups | Request | Answer


class Envelope(msgspec.Struct, frozen=True):
    """``version`` of the protocol, ``region`` that speaks, ``generation`` of its manager."""

    version: int
    region: str
    generation: int
    message: Message


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(region: str, generation: int, message: Message) -> bytes:
    """The message's bytes; :class:`TooLargeError`."""
    data = _encoder.encode(Envelope(VERSION, region, generation, message))
    if len(data) > MOST_BYTES:
        raise TooLargeError(f"{len(data)} bytes are too many for one message between regions (at most {MOST_BYTES})")
    return data


def decode(data: bytes) -> Envelope:
    """Read :func:`encode`'s bytes; raises :class:`ProtocolError`."""
    if len(data) > MOST_BYTES:
        raise ProtocolError(f"{len(data)} bytes are too many for one message between regions (at most {MOST_BYTES})")
    try:
        envelope = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"no message between regions: {error}") from None
    if not OLDEST_VERSION <= envelope.version <= VERSION:
        raise ProtocolError(
            f"region {envelope.region} speaks version {envelope.version} of the protocol between regions, this one "
            f"{OLDEST_VERSION} to {VERSION}: upgrade the older of the two"
        )
    return envelope
