"""NATS: JetStream on file storage, one server or a cluster of three, and core NATS for the fan-out.

Assumes ``nats-py``. JetStream's default answers before it syncs (every two minutes); ``sync`` makes it sync first.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fedbus.errors import UnavailableError
from fedbus_loadtests.bench.crowd import Crowd
from fedbus_loadtests.bench.open_loop import OpenLoop
from fedbus_loadtests.bench.server_process import ServerProcess, package_version, program
from fedbus_loadtests.bench.system import About, Load, Sample, Stopwatch, System, Tuning
from fedbus_loadtests.ports import free_port

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.api import ConsumerConfig

REMEDY = "pip install 'fedbus[bench]'"
STREAM = "BENCH"
SUBJECTS = "bench.>"
CORE_SUBJECT = "live.events"  # outside the stream
FORM_CLUSTER_S = 30.0
FETCH_S = 5.0
ACK_S = 30
ATOMIC_BATCH = 1000  # the server's limit
ATOMIC_AT_ONCE = 4


class Nats(System):
    """A server, or a cluster of ``replicas``; ``sync``: fsync before every acknowledgement."""

    name = "nats"
    choices: ClassVar[Mapping[str, Sequence[Tuning]]] = {
        "publish": tuple({"window": window} for window in (256, 1000, 4000, 16_000)),
        "consume": tuple({"fetch": fetch} for fetch in (100, 500, 1000)),
        "fanout": tuple({"window": window} for window in (100, 500, 2000)),
    }

    def __init__(self, *, sync: bool, replicas: int = 1) -> None:
        super().__init__()
        self._sync = sync
        self._replicas = replicas
        self._directory = tempfile.TemporaryDirectory(prefix="fedbus-bench-nats-")
        self._servers: list[ServerProcess] = []
        self._urls: list[str] = []
        self._clients: list[Client] = []
        self._version = ""
        self._atomic = False

    async def start(self) -> None:
        """Start the servers and make the stream."""
        client = package_version("nats-py")
        server = program("nats-server", [Path(sys.executable).parent], REMEDY)
        run = await asyncio.to_thread(subprocess.run, [server, "--version"], capture_output=True, text=True, check=True)
        self._version = f"{run.stdout.strip().rpartition(' ')[2]}, nats-py {client}"
        routes = [free_port() for _ in range(self._replicas)]
        for number, route in enumerate(routes):
            port, home = free_port(), Path(self._directory.name) / f"s{number}"
            home.mkdir()
            (home / "server.conf").write_text(_config(number, port, route, routes, home, synced=self._sync))
            self._servers.append(ServerProcess("nats-server", [server, "-c", str(home / "server.conf")], home / "log"))
            self._urls.append(f"nats://127.0.0.1:{port}")
            await self._servers[-1].listening(port)
        self._client = await self._connect()
        await self._make_stream()

    async def stop(self) -> None:
        """End clients and servers."""
        for client in self._clients:
            if not client.is_closed:
                await client.close()
        for server in self._servers:
            await server.stop()
        self._directory.cleanup()

    def about(self, verb: str) -> About:
        """By verb: fan-out is core NATS."""
        if verb == "fanout":
            return About(self._version, "memory only (core NATS, at most once)", "1 of 1", dict(self.tuning))
        synced = "sync_interval: always" if self._sync else "page cache, synced every 2 min (its default)"
        needed = self._replicas // 2 + 1
        return About(self._version, f"file storage, {synced}", f"{needed} of {self._replicas}", dict(self.tuning))

    async def publish(self, load: Load) -> Sample:
        """Asynchronous publishing with ``window`` unacknowledged at most."""
        await _purge(self._client)
        stream = self._client.jetstream(publish_async_max_pending=self.tuning.get("window", 4000))
        pairs = load.pairs()
        watch = Stopwatch()
        for subject, payload in pairs:
            await stream.publish_async(subject, payload)
        await stream.publish_async_completed()
        seconds = watch.seconds
        await _check_stored(self._client, load.events)
        return Sample(load.events, seconds)

    async def publish_atomically(self, load: Load) -> Sample | None:
        """The same in atomic batches (ADR-50), several at a time; None if the server does not offer them."""
        if not self._atomic:
            return None
        await _purge(self._client)
        pairs = list(load.pairs())
        batches = [pairs[start : start + ATOMIC_BATCH] for start in range(0, len(pairs), ATOMIC_BATCH)]
        watch = Stopwatch()
        numbered = iter(enumerate(batches))

        async def one_after_another() -> None:
            for number, batch in numbered:
                await _commit(self._client, f"{load.name}-{number}", batch)

        await asyncio.gather(*(one_after_another() for _ in range(ATOMIC_AT_ONCE)))
        seconds = watch.seconds
        await _check_stored(self._client, load.events)
        return Sample(load.events, seconds)

    async def fill(self, load: Load) -> None:
        """Store events."""
        self.tuning = {"window": 4000}
        await self.publish(load)

    async def consume(self, load: Load, *, durable: bool) -> Sample:
        """A durable pull consumer with ``ack`` or ``ack_sync``, ``fetch`` messages at a time."""
        fetch = self.tuning.get("fetch", 500)
        watch = Stopwatch()
        pull = await self._client.jetstream().pull_subscribe(
            SUBJECTS, durable=load.name, stream=STREAM, config=_acks_pending(load)
        )
        left = load.events
        while left:
            messages = await pull.fetch(min(fetch, left), timeout=FETCH_S)
            left -= len(messages)
            if durable:
                await asyncio.gather(*(message.ack_sync(ACK_S) for message in messages))
            else:
                for message in messages:
                    await message.ack()
        return await self._consumed(load, watch)

    async def consume_pushed(self, load: Load) -> Sample:
        """The same pushed by the server, with ``ack``: no consumer that a fleet would share, but faster."""
        done = asyncio.Event()
        left = load.events

        async def read(message: Msg) -> None:
            nonlocal left
            await message.ack()
            left -= 1
            if not left:
                done.set()

        watch = Stopwatch()
        subscription = await self._client.jetstream().subscribe(
            SUBJECTS, durable=load.name, stream=STREAM, cb=read, manual_ack=True, config=_acks_pending(load),
            pending_msgs_limit=-1, pending_bytes_limit=-1,
        )  # fmt: skip
        await done.wait()
        sample = await self._consumed(load, watch)
        await subscription.unsubscribe()
        return sample

    async def latency(self, load: Load, rate_eps: float) -> Sample:
        """Asynchronous publishing, and a pushed consumer on a connection of its own."""
        from nats.js.api import ConsumerConfig, DeliverPolicy

        run = OpenLoop(load, rate_eps)
        stream = self._client.jetstream(publish_async_max_pending=16_000)
        reader = await self._connect()

        async def read(message: Msg) -> None:
            run.delivered(message.data)

        async def send(payload: bytes) -> None:
            await (await stream.publish_async(load.topics[0], payload))

        new = ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
        await reader.jetstream().subscribe(load.topics[0], cb=read, ordered_consumer=True, config=new)
        try:
            return await run.run(send)
        finally:
            await reader.close()

    async def fanout(self, load: Load, connections: int) -> Sample:
        """Core NATS: nothing is stored."""
        crowd = Crowd(connections, self.tuning.get("window", 500))
        readers = [await self._connect() for _ in range(connections)]
        ready: set[int] = set()

        def reading(number: int) -> Callable[[Msg], Awaitable[None]]:
            async def read(message: Msg) -> None:
                if message.data:
                    crowd.arrived()
                else:
                    ready.add(number)

            return read

        for number, reader in enumerate(readers):
            await reader.subscribe(CORE_SUBJECT, cb=reading(number))
            await reader.flush()
        await self._until_heard(ready, connections)

        async def send(payload: bytes) -> None:
            await self._client.publish(CORE_SUBJECT, payload)

        try:
            return await crowd.run(load, send)
        finally:
            for reader in readers:
                await reader.close()

    async def _until_heard(self, ready: Collection[int], connections: int) -> None:
        """Nothing is stored, so begin only when an empty message has reached every reader."""
        watch = Stopwatch()
        while len(ready) < connections:
            if watch.seconds > FORM_CLUSTER_S:
                raise UnavailableError(f"{connections - len(ready)} of {connections} subscribers hear nothing")
            await self._client.publish(CORE_SUBJECT, b"")
            await self._client.flush()
            await asyncio.sleep(0.01)

    async def _consumed(self, load: Load, watch: Stopwatch) -> Sample:
        await self._client.flush()
        seconds = watch.seconds
        await self._client.jetstream().delete_consumer(STREAM, load.name)
        return Sample(load.events, seconds)

    async def _connect(self) -> Client:
        import nats

        client = await nats.connect(self._urls, allow_reconnect=False, error_cb=_ignore)
        self._clients.append(client)
        return client

    async def _make_stream(self) -> None:
        from nats.errors import Error
        from nats.js.api import StorageType, StreamConfig

        config = StreamConfig(
            name=STREAM, subjects=[SUBJECTS], storage=StorageType.FILE, num_replicas=self._replicas, allow_atomic=True
        )
        watch = Stopwatch()
        while True:
            try:
                made = await self._client.jetstream().add_stream(config)
            except Error:
                if watch.seconds > FORM_CLUSTER_S:
                    raise
                await asyncio.sleep(0.2)  # the cluster has no leader yet
            else:
                self._atomic = bool(made.config.allow_atomic)
                return


async def _ignore(_: Exception) -> None:
    """What is lost is found by counting."""


def _acks_pending(load: Load) -> ConsumerConfig:
    from nats.js.api import ConsumerConfig

    return ConsumerConfig(max_ack_pending=max(20_000, load.events))


async def _purge(client: Client) -> None:
    await client.jetstream().purge_stream(STREAM)


async def _check_stored(client: Client, events: int) -> None:
    stored = (await client.jetstream().stream_info(STREAM)).state.messages
    if stored != events:
        raise UnavailableError(f"nats stored {stored} of {events} events")


async def _commit(client: Client, batch_id: str, batch: Sequence[tuple[str, bytes]]) -> None:
    headers = {"Nats-Batch-Id": batch_id}
    for place, (subject, payload) in enumerate(batch[:-1], 1):
        headers["Nats-Batch-Sequence"] = str(place)
        await client.publish(subject, payload, headers=headers)
    subject, payload = batch[-1]
    last = headers | {"Nats-Batch-Sequence": str(len(batch)), "Nats-Batch-Commit": "1"}
    answer = await client.request(subject, payload, timeout=30, headers=last)
    if b'"error"' in answer.data:
        raise UnavailableError(f"nats refused an atomic batch: {answer.data.decode()}")


def _config(number: int, port: int, route: int, routes: Sequence[int], home: Path, *, synced: bool) -> str:
    sync = ", sync_interval: always" if synced else ""
    text = f'listen: "127.0.0.1:{port}"\nserver_name: s{number}\njetstream {{ store_dir: "{home}"{sync} }}\n'
    if len(routes) > 1:
        others = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes if other != route)
        text += f'cluster {{ name: bench, listen: "127.0.0.1:{route}", routes: [{others}] }}\n'
    return text
