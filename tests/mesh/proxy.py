"""A distance between machines: takes the TCP connections that the router diverts to it, and passes them on later.

``python proxy.py PORT…`` runs at the router, in a process of its own. It answers for the address that was called and
calls that address in the caller's name, so that neither side sees it. Lines of JSON on its standard input steer it:
``{"delay_ms": 20}`` (each way), ``{"stalled": true}`` (connections stand and nothing moves), ``{"reset": true}`` (all
are closed). It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import deque

IP_TRANSPARENT = 19
CHUNK_BYTES = 64 * 1024
HELD_BYTES = 1024 * 1024  # each way of a connection; the sender waits when the line is full


class Line:
    """What all connections share."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.moving = asyncio.Event()
        self.moving.set()
        self.writers: set[asyncio.StreamWriter] = set()

    def steer(self, told: dict[str, object]) -> None:
        """Take a line of the standard input."""
        if "delay_ms" in told:
            self.delay_s = float(str(told["delay_ms"])) / 1000
        if "stalled" in told:
            (self.moving.clear if told["stalled"] else self.moving.set)()
        if told.get("reset"):
            for writer in self.writers:
                writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection: another to where it wanted, and both ways between them."""
        called, caller = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        out = socket.socket()
        out.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        out.setblocking(False)
        self.writers.add(writer)
        try:
            out.bind((caller[0], 0))
            await asyncio.sleep(self.delay_s)
            await asyncio.get_running_loop().sock_connect(out, called)
            far_reader, far_writer = await asyncio.open_connection(sock=out)
        except OSError:
            out.close()
            self.writers.discard(writer)
            writer.transport.abort()
            return
        self.writers.add(far_writer)
        try:
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        finally:
            self.writers -= {writer, far_writer}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way, until its end; what was sent arrives in order and ``delay_s`` later."""
        loop = asyncio.get_running_loop()
        under_way: deque[tuple[float, bytes]] = deque()
        changed = asyncio.Event()
        held = 0

        async def deliver() -> None:
            nonlocal held
            while True:
                while not under_way:
                    changed.clear()
                    await changed.wait()
                due, data = under_way.popleft()
                await asyncio.sleep(due - loop.time())
                await self.moving.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
                held -= len(data)
            writer.close()

        async def receive() -> None:
            nonlocal held
            data = b"-"
            while data:
                while held > HELD_BYTES:
                    await asyncio.sleep(self.delay_s or 0.001)
                data = await reader.read(CHUNK_BYTES)
                held += len(data)
                under_way.append((loop.time() + self.delay_s, data))
                changed.set()

        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(receive())
                both.create_task(deliver())
        except* OSError:
            writer.transport.abort()


async def main(ports: list[int]) -> None:
    """Serve until the standard input ends."""
    line = Line()
    for port in ports:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("0.0.0.0", port))
        await asyncio.start_server(line.accept, sock=listening)
    told = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    print("ready", flush=True)
    while text := await told.readline():
        line.steer(json.loads(text))


if __name__ == "__main__":
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
