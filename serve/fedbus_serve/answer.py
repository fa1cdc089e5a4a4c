"""Answers: what the raw routes of the gateway send back, whole, as one ASGI start and one body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple

import msgspec

Header = tuple[bytes, bytes]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json"
_encode_json = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """Status, content type, body and further headers (lower-case names)."""

    status: int
    content_type: bytes
    body: bytes
    headers: tuple[Header, ...] = ()

    async def send(self, send: Send, *, without_body: bool = False) -> None:
        """Send it; ``without_body`` answers a HEAD request."""
        length = b"%d" % len(self.body)
        headers = [(b"content-type", self.content_type), (b"content-length", length), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if without_body else self.body})


def json_answer(status: int, value: Any, headers: Iterable[Header] = ()) -> Answer:
    """``value`` as JSON."""
    return Answer(status, JSON, _encode_json(value), tuple(headers))
