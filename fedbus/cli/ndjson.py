"""NDJSON: one event per line. A line with ``specversion`` is a CloudEvent, any other is data."""

from __future__ import annotations

from typing import Any

import msgspec

from fedbus.clock import Clock
from fedbus.errors import InvalidEventError
from fedbus.event import Event


class Lines(msgspec.Struct, frozen=True):
    """How lines become events; ``prefix`` begins the ids of those that have none."""

    topic: str
    source: str
    prefix: str
    clock: Clock
    key: str | None = None
    key_field: str | None = None
    content_type: str | None = None
    attributes: dict[str, str] = {}

    def event(self, number: int, line: bytes) -> Event:
        """The event of line ``number``; raises :class:`InvalidEventError` that names it."""
        where = f"line {number}"
        try:
            value = msgspec.json.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidEventError(f"{where} is not JSON: {error}") from None
        if isinstance(value, dict) and "specversion" in value:
            event = Event.from_dict(value, where)
            content = event.data
        else:
            event = Event(
                id=f"{self.prefix}-{number}",
                source=self.source,
                type=self.topic,
                time=self.clock.now_ns(),
                datacontenttype=self.content_type or "application/json",
                payload=line.strip(),
            )
            content = value
        key = event.key or self.key
        if self.key_field is not None:
            key = pointed_at(content, self.key_field, where)
        if key == event.key and not self.attributes:
            return event
        attributes = {**(event.attributes or {}), **self.attributes} or None
        return msgspec.structs.replace(event, key=key, attributes=attributes)


def pointed_at(value: Any, pointer: str, where: str) -> str:
    """What a JSON Pointer (RFC 6901) points at, as a key; raises :class:`InvalidEventError`."""
    for token in pointer.removeprefix("/").split("/"):
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise InvalidEventError(f"{where} has no {pointer}, which --key-field names")
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InvalidEventError(f"{where}: {pointer} is no string or number, so it cannot be a key")
    return str(value)
