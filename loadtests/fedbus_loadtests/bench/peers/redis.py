"""Redis: streams with an append-only file, and publish/subscribe for the fan-out.

Assumes ``redis`` (redis-py, with hiredis) and a ``redis-server`` on the path.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedbus.errors import UnavailableError
from fedbus_loadtests.bench.crowd import Crowd
from fedbus_loadtests.bench.open_loop import OpenLoop
from fedbus_loadtests.bench.server_process import ServerProcess, package_version, program
from fedbus_loadtests.bench.system import About, Load, Sample, Stopwatch, System, Tuning
from fedbus_loadtests.ports import free_port

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client

REMEDY = "apt-get install redis-server (Debian), or your system's package of Redis"
PROGRAMS = (Path("/usr/bin"), Path("/usr/local/bin"))
FIELD = b"d"
STREAM = "bench.events"
BLOCK_MS = 1000
MAX_CONNECTIONS = 5000  # an open loop that stalls needs one for every command under way


class Redis(System):
    """One server with an append-only file; ``sync``: ``appendfsync always``, else every second (its default)."""

    name = "redis"
    choices: ClassVar[Mapping[str, Sequence[Tuning]]] = {
        "publish": tuple({"pipeline": size, "pipelines": n} for size in (200, 1000, 4000) for n in (1, 2)),
        "consume": tuple({"count": count} for count in (100, 1000, 4000)),
        "fanout": tuple({"window": window} for window in (100, 500, 2000)),
    }

    def __init__(self, *, sync: bool) -> None:
        super().__init__()
        self._sync = sync
        self._directory = tempfile.TemporaryDirectory(prefix="fedbus-bench-redis-")
        self._server: ServerProcess | None = None
        self._clients: list[Client] = []
        self._version = ""

    async def start(self) -> None:
        """Start the server."""
        client = package_version("redis")
        binary = program("redis-server", PROGRAMS, REMEDY)
        run = await asyncio.to_thread(subprocess.run, [binary, "--version"], capture_output=True, text=True, check=True)
        said = dict(word.split("=", 1) for word in run.stdout.split() if "=" in word)
        self._version = f"{said.get('v', '?')}, redis-py {client}"
        self._port, home = free_port(), Path(self._directory.name)
        settings = {
            "port": self._port, "bind": "127.0.0.1", "dir": home, "appendonly": "yes", "save": "",
            "appendfsync": "always" if self._sync else "everysec", "auto-aof-rewrite-percentage": 0,
        }  # fmt: skip
        arguments = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        arguments += ["--client-output-buffer-limit", "pubsub", "0", "0", "0"]  # a slow subscriber is waited for
        self._server = ServerProcess("redis-server", [binary, *arguments], home / "log")
        await self._server.listening(self._port)
        self._client = self._connect()

    async def stop(self) -> None:
        """End clients and server."""
        for client in self._clients:
            await client.aclose()
        if self._server is not None:
            await self._server.stop()
        self._directory.cleanup()

    def about(self, verb: str) -> About:
        """By verb: fan-out is publish/subscribe."""
        if verb == "fanout":
            return About(self._version, "memory only (publish/subscribe)", "1 of 1", dict(self.tuning))
        synced = "appendfsync always" if self._sync else "appendfsync everysec (its default)"
        return About(self._version, f"append-only file, {synced}", "1 of 1", dict(self.tuning))

    async def publish(self, load: Load) -> Sample:
        """XADD in pipelines of ``pipeline`` commands, ``pipelines`` of them at a time."""
        await self._client.flushall()
        size, at_once = self.tuning.get("pipeline", 1000), self.tuning.get("pipelines", 2)
        pairs = iter(load.pairs())
        watch = Stopwatch()

        async def one_after_another() -> None:
            while part := list(islice(pairs, size)):
                pipeline = self._client.pipeline(transaction=False)
                for topic, payload in part:
                    pipeline.xadd(topic, {FIELD: payload})
                await pipeline.execute()

        await asyncio.gather(*(one_after_another() for _ in range(at_once)))
        return Sample(load.events, watch.seconds)

    async def fill(self, load: Load) -> None:
        """Store events."""
        await self.publish(load)

    async def consume(self, load: Load, *, durable: bool) -> Sample:
        """XREADGROUP and XACK of what was read; an acknowledgement is always answered, so both classes are one."""
        await self._client.xgroup_create(STREAM, load.name, id="0")
        count, left = self.tuning.get("count", 1000), load.events
        watch = Stopwatch()
        while left:
            answer: Any = await self._client.xreadgroup(load.name, "c", {STREAM: ">"}, count=min(count, left))
            entries = _entries(answer)
            if not entries:
                raise UnavailableError(f"redis handed out {load.events - left} of {load.events} events")
            left -= len(entries)
            await self._client.xack(STREAM, load.name, *(entry[0] for entry in entries))
        seconds = watch.seconds
        await self._client.xgroup_destroy(STREAM, load.name)
        return Sample(load.events, seconds)

    async def latency(self, load: Load, rate_eps: float) -> Sample:
        """XADD per event, and XREAD that waits."""
        run = OpenLoop(load, rate_eps)
        reader = self._connect()

        async def read() -> None:
            last = "$"
            while True:
                for entry in _entries(await reader.xread({STREAM: last}, block=BLOCK_MS)):
                    last = entry[0]
                    run.delivered(entry[1][FIELD])

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.1)  # "$" is whatever is last when the first XREAD arrives
        try:
            return await run.run(lambda payload: self._client.xadd(STREAM, {FIELD: payload}))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def fanout(self, load: Load, connections: int) -> Sample:
        """Publish/subscribe: nothing is stored."""
        crowd = Crowd(connections, self.tuning.get("window", 500))
        readers = [self._connect().pubsub(ignore_subscribe_messages=True) for _ in range(connections)]

        async def read(reader: Any) -> None:
            async for message in reader.listen():
                if message is not None:
                    crowd.arrived()

        for reader in readers:
            await reader.subscribe(STREAM)
            await reader.get_message(timeout=1)  # its confirmation
        reading = [asyncio.create_task(read(reader)) for reader in readers]
        try:
            return await crowd.run(load, lambda payload: self._client.publish(STREAM, payload))
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            for reader in readers:
                await reader.aclose()  # type: ignore[no-untyped-call]

    def _connect(self) -> Client:
        from redis.asyncio import Redis as Client

        client = Client(host="127.0.0.1", port=self._port, protocol=2, max_connections=MAX_CONNECTIONS)
        self._clients.append(client)
        return client


def _entries(answer: Any) -> list[Any]:
    """The entries of one stream, from the answer of XREAD and its kin."""
    return list(answer[0][1]) if answer else []
