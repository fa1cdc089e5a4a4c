"""Writes events: what a caller hands to ``send`` or ``publish``, checked against the limits, as wire bytes.

Part of the hot path, hence one long method and bare tuples: a tuple encodes to what an :class:`~fedbus.event.Event`
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from fedbus.client.schema_guard import SchemaGuard
from fedbus.clock import Clock
from fedbus.errors import ClosedError, InvalidEventError, TooLargeError
from fedbus.event import PARTITION_KEY, check_attributes, check_time, encode_data
from fedbus.limits import Limits
from fedbus.topic import check_topic

KNOWN_TOPICS = 16_384
UTF8_BYTES = 4  # at most, per character

_encode = msgspec.msgpack.Encoder().encode
_to_json = msgspec.json.Encoder().encode


class EventWriter:
    """Numbers events (the default id is producer and number), stamps and encodes them."""

    __slots__ = (
        "_closed",
        "_guard",
        "_guard_version",
        "_limits",
        "_now_ns",
        "_number",
        "_prefix",
        "_short_key",
        "_source",
        "_topics",
    )

    def __init__(self, producer: str, source: str, limits: Limits, clock: Clock, guard: SchemaGuard) -> None:
        self._prefix = f"{producer}-"
        self._source = source
        self._limits = limits
        self._now_ns = clock.now_ns
        self._number = 0
        self._short_key = limits.key_bytes // UTF8_BYTES
        self._guard = guard
        self._guard_version = guard.version
        self._topics: set[str] = set()  # found to be well-formed, and free of schemas
        self._closed = False

    def close(self) -> None:
        """Write nothing any more."""
        self._closed = True
        self._topics.clear()  # so that the next event is checked

    def next_id(self) -> str:
        """The id which the next event gets by default."""
        return f"{self._prefix}{self._number + 1}"

    def write(
        self,
        topic: str,
        data: Any,
        key: str | None,
        type: str | None,
        attributes: Mapping[str, str | int | bool] | None,
        id: str | None,
        time: str | datetime | None,
        content_type: str | None,
    ) -> bytes:
        """The event's bytes; raises what is wrong with it."""
        kind = data.__class__
        payload: bytes | None
        natural: str | None
        if kind is bytes:
            payload, natural = data, "application/octet-stream"
        elif kind is dict:
            try:
                payload, natural = _to_json(data), "application/json"
            except (TypeError, ValueError, msgspec.MsgspecError) as error:
                raise InvalidEventError(f"{topic}: data is not JSON: {error}; pass bytes instead") from None
        else:
            payload, natural = encode_data(data)
        if (
            topic not in self._topics
            or self._guard_version != self._guard.version
            or attributes is not None
            or (payload is not None and len(payload) > self._limits.event_bytes)
            or (key is not None and len(key) > self._short_key)
        ):
            self.check(topic, content_type or natural, payload, key, attributes)
        self._number = number = self._number + 1
        return _encode(
            (
                id or f"{self._prefix}{number}",
                self._source,
                type or topic,
                self._now_ns() if time is None else _moment(time),
                content_type or natural,
                key,
                attributes,
                payload,
            )
        )

    def check(
        self,
        topic: str,
        content_type: str | None,
        payload: bytes | None,
        key: str | None,
        attributes: Mapping[str, str | int | bool] | None,
    ) -> None:
        """Raise what is wrong with an event: topic, sizes, attributes, schema."""
        if self._closed:
            raise ClosedError("this producer was closed; open another one with bus.producer()")
        limits = self._limits
        if self._guard_version != self._guard.version:
            self._guard_version = self._guard.version
            self._topics.clear()
        if topic not in self._topics:
            check_topic(topic)
            if len(self._topics) >= KNOWN_TOPICS:
                self._topics.clear()
            if self._guard.concerns(topic):
                self._guard.check(topic, content_type, payload)
            else:
                self._topics.add(topic)
        if payload is not None and len(payload) > limits.event_bytes:
            raise TooLargeError(
                f"{topic}: data of {len(payload)} bytes is beyond the limit of {limits.event_bytes} (event_bytes); "
                "store it elsewhere and publish a reference"
            )
        if key is not None and len(key.encode()) > limits.key_bytes:
            raise TooLargeError(f"{topic}: a key of {len(key.encode())} bytes is beyond {limits.key_bytes} (key_bytes)")
        if attributes is not None:
            check_attributes(attributes, topic)
            if PARTITION_KEY in attributes:
                raise InvalidEventError(f"{topic}: pass {PARTITION_KEY} as key=, not as an attribute")
            if len(_encode(attributes)) > limits.attributes_bytes:
                raise TooLargeError(f"{topic}: attributes beyond {limits.attributes_bytes} bytes (attributes_bytes)")


def _moment(time: str | datetime) -> str | None:
    if isinstance(time, datetime):
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).isoformat()
    return check_time(time)
