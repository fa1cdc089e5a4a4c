"""A keep-alive HTTP/1.1 connection of a load generator: one request at a time, no parsing that is not needed."""

from __future__ import annotations

import asyncio

from fedbus.errors import ProtocolError, UnavailableError

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"


class HttpConnection(asyncio.Protocol):
    """Made by ``loop.create_connection``. Answers without a length are no business of a benchmark."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport), "TCP has a transport that writes"
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(UnavailableError(f"the gateway closed the connection ({exc})"))

    async def request(self, raw: bytes) -> int:
        """Send one finished request; its status."""
        assert self._transport is not None, "not connected"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answer

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._buffer += data
        head, found, body = self._buffer.partition(END_OF_HEAD)
        if not found or self._answer is None:
            return
        _, has_length, rest = head.lower().partition(LENGTH)
        if not has_length:
            self._answer.set_exception(ProtocolError(f"an answer without a length: {head[:200]!r}"))
        elif len(body) >= int(rest.split(b"\r\n", 1)[0]):
            self._buffer = b""
            self._answer.set_result(int(head[9:12]))


def post(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + END_OF_HEAD + body
