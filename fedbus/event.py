"""Events: CloudEvents 1.0, typed and immutable.

On the wire an event is a MessagePack array of the attributes and its data as bytes; brokers never look inside. JSON is
made of it only at the edges (HTTP, the command line).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from fedbus.errors import InvalidEventError
from fedbus.position import Position

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

PARTITION_KEY = "partitionkey"
_ATTRIBUTE_NAME = re.compile(r"[a-z0-9]{1,64}")
_CORE = frozenset({"specversion", "id", "source", "type", "time", "datacontenttype", "data", "data_base64"}) | {
    PARTITION_KEY
}
_TEXT_ONLY = frozenset({"subject", "dataschema"})
# Control characters, surrogates and noncharacters are no part of a CloudEvents string (spec 1.0.2, 2.1).
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class Settlement(Protocol):
    """What a delivered event calls to settle itself; the subscription it came through implements it."""

    async def ack(self, ledger: str, offset: int, *, wait: bool) -> None:
        """Acknowledge; with ``wait`` return only when that is durable."""

    async def ack_many(self, offsets: Mapping[str, Sequence[int]], *, wait: bool) -> None:
        """The same for many offsets, by ledger."""

    async def nack(self, ledger: str, offset: int, *, delay_ms: int | None, dead_letter: str) -> None:
        """Give back for redelivery after ``delay_ms``, or (with a reason) for the dead-letter topic."""

    async def extend(self, ledger: str, offset: int) -> None:
        """Start the acknowledgement deadline anew."""


class Arrival:
    """How an event reached this consumer: topic, position, which delivery this is, and where to settle it."""

    __slots__ = ("delivery", "flags", "ledger", "offset", "settlement", "topic")

    def __init__(
        self, topic: str, ledger: str, offset: int, delivery: int, settlement: Settlement | None, flags: int = 0
    ) -> None:
        self.topic = topic
        self.ledger = ledger
        self.offset = offset
        self.delivery = delivery
        self.settlement = settlement
        self.flags = flags


def by_settlement(events: Iterable[Event]) -> dict[Settlement, dict[str, list[int]]]:
    """Where these events are to be settled: their offsets by settlement and ledger."""
    found: dict[Settlement, dict[str, list[int]]] = {}
    for event in events:
        arrival = event._arrival  # noqa: SLF001 - this module's own
        if arrival is not None and arrival.settlement is not None:
            ledgers = found.get(arrival.settlement)
            if ledgers is None:
                ledgers = found[arrival.settlement] = {}
            offsets = ledgers.get(arrival.ledger)
            if offsets is None:
                offsets = ledgers[arrival.ledger] = []
            offsets.append(arrival.offset)
    return found


class Event(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A CloudEvents 1.0 event.

    ``payload`` is the data's bytes; :attr:`data` reads them. ``time`` is RFC 3339 text or nanoseconds since the epoch
    (what producers write by default, cheaper). ``attributes`` holds ``subject``, ``dataschema`` and extensions. ``key``
    is the extension ``partitionkey``: events of one key stay in order.
    """

    id: str
    source: str
    type: str
    time: int | str | None = None
    datacontenttype: str | None = None
    key: str | None = None
    attributes: dict[str, str | int | bool] | None = None
    payload: bytes | None = None
    _arrival: Any = None

    @property
    def data(self) -> Any:
        """The data as Python: JSON decoded, text as ``str``, anything else as ``bytes``; ``None`` if there is none."""
        if self.payload is None:
            return None
        if is_json(self.datacontenttype):
            try:
                return msgspec.json.decode(self.payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self.payload
        if self.datacontenttype is not None and self.datacontenttype.startswith("text/"):
            return self.payload.decode(errors="replace")
        return self.payload

    @property
    def topic(self) -> str:
        """The topic it was published to (its type, for an event that was never published)."""
        return self._arrival.topic if self._arrival is not None else self.type

    @property
    def position(self) -> Position | None:
        """Its origin position, the same in every region; ``None`` before it was published."""
        return Position(self._arrival.ledger, self._arrival.offset) if self._arrival is not None else None

    @property
    def delivery(self) -> int:
        """Which delivery to the group this is, from 1."""
        return self._arrival.delivery if self._arrival is not None else 1

    @property
    def possible_duplicate(self) -> bool:
        """Whether another try to publish it may have been stored and delivered too (never set by idempotent ones)."""
        return self._arrival is not None and self._arrival.flags & 1 == 1

    @property
    def time_text(self) -> str | None:
        """``time`` as RFC 3339 in UTC."""
        return format_time_ns(self.time) if isinstance(self.time, int) else self.time

    async def ack(self, *, wait: bool = False) -> None:
        """Acknowledge. Buffered by default; ``wait=True`` returns when the acknowledgement is durable."""
        if (settlement := _settlement_of(self)) is not None:
            await settlement.ack(self._arrival.ledger, self._arrival.offset, wait=wait)

    async def nack(self, *, delay_ms: int | None = None, dead_letter: str = "") -> None:
        """Give the event back; it is delivered again after ``delay_ms`` (``None``: the group's back-off).

        ``dead_letter``: a reason for which it is not delivered again, but goes to the dead-letter topic at once.
        """
        if (settlement := _settlement_of(self)) is not None:
            arrival = self._arrival
            await settlement.nack(arrival.ledger, arrival.offset, delay_ms=delay_ms, dead_letter=dead_letter)

    async def extend(self) -> None:
        """Ask for a whole acknowledgement deadline more."""
        if (settlement := _settlement_of(self)) is not None:
            await settlement.extend(self._arrival.ledger, self._arrival.offset)

    def encode(self) -> bytes:
        """Its bytes on the wire."""
        return _encode(self if self._arrival is None else msgspec.structs.replace(self, _arrival=None))

    @classmethod
    def decode(cls, data: bytes | memoryview, arrival: Arrival | None = None) -> Event:
        """An event from its wire bytes; raises :class:`InvalidEventError`."""
        try:
            event = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidEventError(f"these {len(data)} bytes are no event: {error}") from None
        msgspec.structs.force_setattr(event, "_arrival", arrival)
        return event

    def to_dict(self) -> dict[str, Any]:
        """The structured JSON form of CloudEvents as a dict (``data`` decoded, or ``data_base64``)."""
        out: dict[str, Any] = {"specversion": "1.0", "id": self.id, "source": self.source, "type": self.type}
        if self.time is not None:
            out["time"] = self.time_text
        if self.datacontenttype is not None:
            out["datacontenttype"] = self.datacontenttype
        if self.attributes:
            out.update(self.attributes)
        if self.key is not None:
            out[PARTITION_KEY] = self.key
        data = self.data
        if isinstance(data, bytes):
            out["data_base64"] = base64.b64encode(data).decode()
        elif self.payload is not None:
            out["data"] = data
        return out

    @classmethod
    def from_dict(cls, structured: Mapping[str, Any], where: str = "event") -> Event:
        """An event from the structured JSON form; raises :class:`InvalidEventError` naming ``where`` and what."""
        for name in ("specversion", "id", "source", "type"):
            value = structured.get(name)
            if not isinstance(value, str) or not value:
                raise InvalidEventError(f"{where}: attribute {name!r} is required and must be a non-empty string")
            if not value.isprintable():
                check_text(name, value, where)
        if structured["specversion"] != "1.0":
            raise InvalidEventError(f"{where}: specversion {structured['specversion']!r} is not 1.0")
        content_type = structured.get("datacontenttype")
        if content_type is not None:
            if not isinstance(content_type, str):
                raise InvalidEventError(f"{where}: datacontenttype must be a string")
            check_text("datacontenttype", content_type, where)
        elif "data" in structured:
            content_type = "application/json"  # what an absent one means for data, and only there (JSON format, 3.1.2)
        payload = _structured_payload(structured, content_type, where)
        attributes: dict[str, Any] = {}
        if not structured.keys() <= _CORE:
            attributes = {k: v for k, v in structured.items() if k not in _CORE and v is not None}
            check_attributes(attributes, where)
        key = structured.get(PARTITION_KEY)
        if key is not None and not isinstance(key, str):
            raise InvalidEventError(f"{where}: {PARTITION_KEY} must be a string")
        if key is not None:
            check_text(PARTITION_KEY, key, where)
        return cls(
            id=structured["id"], source=structured["source"], type=structured["type"],
            time=check_time(structured.get("time"), where), datacontenttype=content_type, key=key or None,
            attributes=attributes or None, payload=payload,
        )  # fmt: skip

    def to_cloudevent(self) -> CloudEvent:
        """The ``cloudevents`` SDK's event (needs that package)."""
        from cloudevents.core.v1.event import CloudEvent  # an optional dependency

        attributes = {k: v for k, v in self.to_dict().items() if k not in ("data", "data_base64")}
        if "time" in attributes:
            attributes["time"] = datetime.fromisoformat(attributes["time"])
        return CloudEvent(attributes=attributes, data=self.data)

    @classmethod
    def from_cloudevent(cls, event: CloudEvent) -> Event:
        """From the ``cloudevents`` SDK's event; raises :class:`InvalidEventError`."""
        structured = dict(event.get_attributes())
        if isinstance(moment := structured.get("time"), datetime):
            structured["time"] = moment.isoformat()
        data = event.get_data()
        if isinstance(data, bytes):
            structured["data_base64"] = base64.b64encode(data).decode()
        elif data is not None:
            structured["data"] = data
        return cls.from_dict(structured)


def _settlement_of(event: Event) -> Settlement | None:
    return event._arrival.settlement if event._arrival is not None else None  # noqa: SLF001 - of this module


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Event)


def is_json(content_type: str | None) -> bool:
    """Whether data of this content type is JSON: ``*/json`` or ``*/*+json``; without one nothing is known about it."""
    if content_type is None:
        return False
    media = content_type.partition(";")[0].strip().lower()
    return media.endswith(("/json", "+json"))


def encode_data(data: Any) -> tuple[bytes | None, str | None]:
    """(payload, content type) of what a caller hands in: bytes as they are, ``str`` as text, anything else as JSON."""
    if data is None:
        return None, None
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data), "application/octet-stream"
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    try:
        return msgspec.json.encode(data), "application/json"
    except (TypeError, msgspec.MsgspecError) as error:
        kind = type(data).__name__
        raise InvalidEventError(f"data of type {kind} is not JSON: {error}; pass bytes instead") from None


def check_attributes(attributes: Mapping[str, Any], where: str = "event") -> None:
    """Raise :class:`InvalidEventError` unless names and values are what CloudEvents allows."""
    for name, value in attributes.items():
        if _ATTRIBUTE_NAME.fullmatch(name) is None:
            raise InvalidEventError(f"{where}: attribute name {name[:80]!r} must be 1 to 64 of a-z 0-9")
        if isinstance(value, str):
            check_text(name, value, where)
        elif not isinstance(value, bool | int) or name in _TEXT_ONLY:
            kinds = "a string" if name in _TEXT_ONLY else "a string, integer or boolean"
            raise InvalidEventError(f"{where}: attribute {name!r} must be {kinds}")
        elif not -(2**31) <= value < 2**31:
            raise InvalidEventError(f"{where}: attribute {name!r} is outside the 32-bit integers of CloudEvents")


def check_text(name: str, value: str, where: str = "event") -> None:
    """Raise :class:`InvalidEventError` if the string holds a character that CloudEvents strings may not hold."""
    if not value.isprintable() and (found := _NO_TEXT.search(value)):
        code = f"U+{ord(found[0]):04X}"
        raise InvalidEventError(f"{where}: attribute {name!r} holds the control character {code} at {found.start()}")


def check_time(value: Any, where: str = "event") -> str | None:
    """Return the RFC 3339 text, or raise :class:`InvalidEventError`."""
    if value is None:
        return None
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        try:
            datetime.fromisoformat(value.upper())
        except ValueError:
            pass
        else:
            return value
    raise InvalidEventError(f"{where}: time {value!r} is not RFC 3339, for example 2026-01-31T12:00:00Z")


def format_time_ns(time_ns: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest_ns // 1000:06d}Z"


def _structured_payload(structured: Mapping[str, Any], content_type: str | None, where: str) -> bytes | None:
    encoded = structured.get("data_base64")
    if encoded is not None:
        if structured.get("data") is not None:
            raise InvalidEventError(f"{where}: data and data_base64 exclude each other")
        try:
            return base64.b64decode(encoded, validate=True)
        except (TypeError, ValueError) as error:
            raise InvalidEventError(f"{where}: data_base64 is not base64 ({error})") from None
    if "data" not in structured:
        return None
    data = structured["data"]
    if isinstance(data, str) and not is_json(content_type):
        return data.encode()
    return msgspec.json.encode(data)
