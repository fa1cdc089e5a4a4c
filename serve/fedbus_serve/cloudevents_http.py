"""CloudEvents over HTTP: a request's headers and body → the events to publish, each with its topic.

Binary, structured and batched mode of the CloudEvents 1.0 HTTP binding, and NDJSON of structured events, in which a
line without ``specversion`` is plain data. Pure: identifiers and time are passed in. Validation is all or nothing: one
invalid event and the whole request is refused, with the index of each. The data's own bytes are kept as they were sent.
Whether data fits a schema, and where an event goes, is left to others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from fedbus.errors import FedbusError, InvalidEventError, TooLargeError
from fedbus.event import Event, is_json
from fedbus.limits import Limits
from fedbus.topic import check_topic
from fedbus_serve.answer import Header
from fedbus_serve.problems import ERRORS_LISTED, BatchRefusedError, IndexedError, UnsupportedMediaTypeError

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
NDJSON = "application/x-ndjson"
ACCEPTED = (STRUCTURED, BATCHED, NDJSON)
_ACCEPTED_TEXT = f"Accepted are {', '.join(ACCEPTED)}, and any type for data with the headers ce-id, ce-source, ce-type"
_REQUIRED = ("id", "source", "type", "specversion")
_BACKSLASH = ord("\\")
_NOT_BY_HEADER = ("datacontenttype", "data", "data_base64")

Addressed = tuple[str, Event]
Json = bytes | msgspec.Raw


class _DataMember(msgspec.Struct):
    """The one member of a structured event whose bytes are kept."""

    data: msgspec.Raw = msgspec.Raw()


_checked_topic = lru_cache(16_384)(check_topic)  # a stream of events has few topics; refusals are not remembered
_any = msgspec.json.Decoder()
_data_member = msgspec.json.Decoder(_DataMember)
_raw = msgspec.json.Decoder(msgspec.Raw)
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])


class EventReader:
    """Reads requests under one table of limits. ``source`` and ``new_id()`` are given to data that is no event yet."""

    __slots__ = ("_limits", "_new_id", "_source")

    def __init__(self, limits: Limits, new_id: Callable[[], str], source: str = "/fedbus/gateway") -> None:
        self._limits = limits
        self._new_id = new_id
        self._source = source

    def read(self, headers: Iterable[Header], body: bytes, topic: str | None, now_ns: int) -> list[Addressed]:
        """The events of a request, in order; without ``topic`` each event's type is its topic.

        Raises :class:`InvalidEventError`, :class:`~fedbus.errors.InvalidTopicError` (400), :class:`TooLargeError` (413)
        or :class:`UnsupportedMediaTypeError` (415); of several events a :class:`BatchRefusedError` listing the invalid.
        """
        if topic is not None:
            _checked_topic(topic)
        content_type, attributes = _split_headers(headers)
        media, charset = _media_type(content_type)
        if charset not in (None, "utf-8", "utf8", "us-ascii") and (media in ACCEPTED or is_json(media)):
            raise UnsupportedMediaTypeError(f"charset {charset!r}: JSON is read as utf-8 only. {_ACCEPTED_TEXT}")
        if media == STRUCTURED:
            return [self._addressed(_structured(body, "event"), topic)]
        if media == BATCHED:
            return self._each(_elements(body), topic, _structured)
        if media == NDJSON:
            return self._each(_lines(body), topic, lambda raw, where: self._line(raw, where, topic, now_ns))
        return [self._addressed(_binary(content_type, media, attributes, body), topic)]

    def _each(
        self, parts: Iterator[tuple[Json, str]], topic: str | None, read: Callable[[Json, str], Event]
    ) -> list[Addressed]:
        found: list[Addressed] = []
        errors: list[IndexedError] = []
        for index, (raw, where) in enumerate(parts):
            try:
                found.append(self._addressed(read(raw, where), topic))
            except FedbusError as error:
                errors.append(IndexedError(index, error))
                if len(errors) == ERRORS_LISTED:
                    raise BatchRefusedError(errors, more=True) from None
        if errors:
            raise BatchRefusedError(errors)
        return found

    def _line(self, raw: Json, where: str, topic: str | None, now_ns: int) -> Event:
        """A line of NDJSON: an event if it has a ``specversion``, else data for the topic in the path."""
        value = _decode(raw, where)
        if isinstance(value, dict) and "specversion" in value:
            return _structured(raw, where)
        if topic is None:
            raise InvalidEventError(
                f"{where} has no specversion, so it is data and no event; data needs its topic in the path: "
                "POST /v1/topics/{topic}/events"
            )
        return Event(
            id=self._new_id(), source=self._source, type=topic, time=now_ns,
            datacontenttype="application/json", payload=bytes(raw),
        )  # fmt: skip

    def _addressed(self, event: Event, topic: str | None) -> Addressed:
        """The event and its topic, within the limits."""
        limits, size_bytes = self._limits, len(event.payload or b"")
        if size_bytes > limits.event_bytes:
            raise TooLargeError(f"event {event.id[:80]!r} has {size_bytes} bytes of data, at most {limits.event_bytes}")
        if event.key is not None and len(event.key) * 4 > limits.key_bytes:
            key_bytes = len(event.key.encode())
            if key_bytes > limits.key_bytes:
                raise TooLargeError(f"event {event.id[:80]!r}: key of {key_bytes} bytes, at most {limits.key_bytes}")
        core = len(event.id) + len(event.source) + len(event.type) + len(event.datacontenttype or "")
        if event.attributes is not None or (core + limits.key_bytes) * 4 > limits.attributes_bytes:
            attributes_bytes = _attributes_bytes(event)
            if attributes_bytes > limits.attributes_bytes:
                found = f"event {event.id[:80]!r}: attributes of {attributes_bytes} bytes"
                raise TooLargeError(f"{found}, at most {limits.attributes_bytes}")
        return (_checked_topic(event.type) if topic is None else topic), event


def _split_headers(headers: Iterable[Header]) -> tuple[str | None, dict[str, str]]:
    """(content type, CloudEvents attributes); names are lower-case, as ASGI servers hand them over."""
    content_type: str | None = None
    attributes: dict[str, str] = {}
    for name, value in headers:
        if name == b"content-type":
            content_type = value.decode("latin-1").strip()
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMediaTypeError(
                f"content-encoding {value.decode('latin-1')[:40]!r}: send the body as it is"
            )
        elif name.startswith(b"ce-"):
            attribute = name[3:].decode("latin-1")
            if attribute in attributes:
                raise InvalidEventError(f"header ce-{attribute} is there twice")
            attributes[attribute] = decode_header(value, attribute)
    return content_type, attributes


def decode_header(value: bytes, attribute: str) -> str:
    """A header's value as the attribute's text: quoted strings unquoted, percent-encoding undone once, then UTF-8."""
    if value.isascii() and b"%" not in value and b'"' not in value:
        return value.decode("ascii").strip()
    value = value.strip()
    if len(value) > 1 and value[:1] == b'"' and value[-1:] == b'"':
        value = _unescape(value[1:-1])
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError as error:
        raise InvalidEventError(f"header ce-{attribute} is not percent-encoded UTF-8 ({error})") from None


def _unescape(quoted: bytes) -> bytes:
    out, escaped = bytearray(), False
    for byte in quoted:
        escaped = byte == _BACKSLASH and not escaped
        if not escaped:
            out.append(byte)
    return bytes(out)


def _media_type(content_type: str | None) -> tuple[str | None, str | None]:
    """(media type, charset), lower-case."""
    if not content_type:
        return None, None
    media, _, rest = content_type.partition(";")
    charset = None
    for parameter in rest.split(";") if rest else ():
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"').lower()
    return media.strip().lower(), charset


def _binary(content_type: str | None, media: str | None, attributes: dict[str, str], body: bytes) -> Event:
    """Binary mode: attributes are headers, the body is the data."""
    if media is not None and media.startswith("application/cloudevents"):
        raise UnsupportedMediaTypeError(f"content type {media[:80]!r} is no form of events read here. {_ACCEPTED_TEXT}")
    if not attributes and media is not None and not is_json(media):
        raise UnsupportedMediaTypeError(
            f"content type {media[:80]!r} without ce- headers is no event. {_ACCEPTED_TEXT}"
        )
    if missing := [f"ce-{name}" for name in _REQUIRED if name not in attributes]:
        raise InvalidEventError(f"header {', '.join(missing)} is missing: the event's attributes. {_ACCEPTED_TEXT}")
    for name in _NOT_BY_HEADER:
        if name in attributes:
            raise InvalidEventError(f"header ce-{name} must not be there: the body is the data, Content-Type its type")
    fields: dict[str, Any] = dict(attributes)
    if content_type:
        fields["datacontenttype"] = content_type
    event = Event.from_dict(fields, "ce- headers")
    if not body:
        return event
    if is_json(media):
        _check_json(body, "the body")
    return msgspec.structs.replace(event, payload=body)


def _structured(raw: Json, where: str) -> Event:
    """An event in the JSON format; its data keeps the bytes it has there."""
    fields = _decode(raw, where)
    if not isinstance(fields, dict):
        raise InvalidEventError(f"{where} is a JSON {_json_kind(fields)}, a CloudEvent is an object")
    if "data" in fields:
        content_type = fields.get("datacontenttype")
        as_text = isinstance(fields["data"], str) and isinstance(content_type, str) and not is_json(content_type)
        if not as_text:
            fields["data"] = _data_member.decode(raw).data
    return Event.from_dict(fields, where)


def _elements(body: bytes) -> Iterator[tuple[Json, str]]:
    """The elements of a JSON array, undecoded (and not yet known to be UTF-8)."""
    try:
        elements = _raw_list.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        _check_json(body, "the batch")
        raise InvalidEventError("the batch is no JSON array of events") from None
    for index, raw in enumerate(elements):
        yield raw, f"event {index}"


def _lines(body: bytes) -> Iterator[tuple[Json, str]]:
    """The lines that are not empty, with their numbers from 1."""
    for number, line in enumerate(body.split(b"\n"), 1):
        stripped = line.strip()
        if stripped:
            yield stripped, f"line {number}"


def _decode(raw: Json, where: str) -> Any:
    try:
        return _any.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(bytes(raw), where, error) from None


def _check_json(raw: bytes, where: str) -> None:
    """Raise :class:`InvalidEventError` unless this is JSON in UTF-8; nothing is built of it."""
    try:
        _raw.decode(raw)
        if not raw.isascii():
            raw.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(raw, where, error) from None


def _malformed(raw: bytes, where: str, error: Exception) -> InvalidEventError:
    """Where the JSON breaks, as an offset in bytes; only read when something is wrong already."""
    if isinstance(error, UnicodeDecodeError):
        return InvalidEventError(
            f"{where} is not UTF-8: byte {error.object[error.start]:#04x} at byte offset {error.start}"
        )
    if isinstance(error, RecursionError):
        return InvalidEventError(f"{where} is JSON nested too deeply to be read")
    try:
        text = raw.decode()
        json.loads(text)
    except UnicodeDecodeError as found:
        return InvalidEventError(f"{where} is not UTF-8 at byte offset {found.start}")
    except json.JSONDecodeError as found:
        offset = len(found.doc[: found.pos].encode())
        return InvalidEventError(f"{where} is not JSON at byte offset {offset}: {found.msg}")
    except (RecursionError, ValueError):
        pass
    return InvalidEventError(f"{where} is not JSON: {error}")


def _attributes_bytes(event: Event) -> int:
    """What the attributes take, about (names and values as UTF-8, at most a byte each for what surrounds them)."""
    texts = [event.id, event.source, event.type, event.datacontenttype or "", event.key or ""]
    for name, value in (event.attributes or {}).items():
        texts += (name, str(value))
    return len("\n".join(texts).encode())


def _json_kind(value: Any) -> str:
    kinds: tuple[tuple[type, str], ...] = ((bool, "boolean"), (str, "string"), (list, "array"), (type(None), "null"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")
