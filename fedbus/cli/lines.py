"""Lines of a file or pipe, read in a thread, because a pipe may keep silent for long while sessions need heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from io import BufferedReader

from fedbus.threads import spawn

CHUNK_BYTES = 256 * 1024
CHUNKS_AHEAD = 4


async def read_lines(stream: BufferedReader) -> AsyncIterator[list[bytes]]:
    """Whole lines (without their ends) as they come in, several at a time; the last needs no end."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | OSError] = asyncio.Queue(CHUNKS_AHEAD)

    def read() -> None:
        try:
            while True:
                try:
                    chunk: bytes | OSError = stream.read1(CHUNK_BYTES)
                except OSError as error:
                    chunk = error
                asyncio.run_coroutine_threadsafe(queue.put(chunk), loop).result()
                if not chunk or isinstance(chunk, OSError):
                    return
        except (RuntimeError, CancelledError):
            return  # the loop has ended: nobody wants more

    spawn("fedbus-lines", read)
    rest = b""
    while chunk := await queue.get():
        if isinstance(chunk, OSError):
            raise chunk
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]
