"""A slow way: a TCP forwarder in front of one instance that holds everything back for a while, while it is told to."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65_536


class SlowWay:
    """Forwards 127.0.0.1:``port`` to the port of an instance; ``delay_s`` each way, to be changed at any time."""

    def __init__(self, instance_port: int) -> None:
        self._instance_port = instance_port
        self.delay_s = 0.0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        """What a client is to dial."""
        return f"tcp://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for way in list(self._ways):
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._instance_port)
        except OSError:
            writer.transport.abort()
            return
        for source, target in ((reader, far_writer), (far_reader, writer)):
            way = asyncio.create_task(self._carry(source, target))
            self._ways.add(way)
            way.add_done_callback(self._ways.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way, until its end: what arrives goes on ``delay_s`` later, in its order."""
        loop = asyncio.get_running_loop()
        held: deque[bytes] = deque()
        due_s = 0.0

        def pass_on() -> None:
            data = held.popleft()
            if data:
                writer.write(data)
            else:
                writer.close()

        try:
            while True:
                data = await reader.read(CHUNK_BYTES)
                due_s = max(due_s, loop.time() + self.delay_s)
                held.append(data)
                loop.call_at(due_s, pass_on)
                if not data:
                    return
        except OSError:
            writer.transport.abort()
        finally:
            if not held:
                writer.transport.abort()
