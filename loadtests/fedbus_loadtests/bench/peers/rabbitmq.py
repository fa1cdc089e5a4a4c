"""RabbitMQ: streams over the stream protocol.

Assumes ``rstream`` and the system's ``rabbitmq-server`` (3.9 or newer, with the plugin rabbitmq_stream). Streams are
not synced before they are confirmed, whatever is asked for: the page cache is their only class.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedbus_loadtests.bench.open_loop import OpenLoop
from fedbus_loadtests.bench.server_process import ServerProcess, package_version, program
from fedbus_loadtests.bench.system import About, Load, Sample, Stopwatch, System, Tuning
from fedbus_loadtests.ports import free_port

if TYPE_CHECKING:
    from rstream import Consumer, Producer

REMEDY = "apt-get install rabbitmq-server (Debian), or your system's package of RabbitMQ"
# not the wrapper in /usr/sbin, which changes to a user of its own
PROGRAMS = (Path("/usr/lib/rabbitmq/bin"), Path("/usr/local/sbin"))
STREAM = "bench.events"
STORE_EVERY = 1000  # events between two stored offsets: streams know no acknowledgement per event
QUIET = "+sbwt none +sbwtdcpu none +sbwtdio none"  # its schedulers do not spin while others are measured


class RabbitMQ(System):
    """One node with its own epmd, both on free ports."""

    name = "rabbitmq"
    choices: ClassVar[Mapping[str, Sequence[Tuning]]] = {
        "publish": tuple({"batch": size, "batches": n} for size in (200, 1000) for n in (2, 8)),
        "consume": tuple({"credit": credit} for credit in (10, 50)),
    }

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(prefix="fedbus-bench-rabbitmq-")
        self._servers: list[ServerProcess] = []
        self._producer: Producer | None = None
        self._version = ""

    async def start(self) -> None:
        """Start epmd and the node, and make the stream."""
        client = package_version("rstream")
        import rstream

        binary = program("rabbitmq-server", PROGRAMS, REMEDY)
        epmd = program("epmd", [Path("/usr/bin")], REMEDY)
        home = Path(self._directory.name)
        amqp, mapper = free_port(), free_port()
        self._port = free_port()
        for name, text in {
            "rabbitmq.conf": f"listeners.tcp.1 = 127.0.0.1:{amqp}\nstream.listeners.tcp.1 = 127.0.0.1:{self._port}\n"
            f"stream.advertised_host = 127.0.0.1\nstream.advertised_port = {self._port}\n",
            "plugins": "[rabbitmq_stream].\n",
        }.items():
            (home / name).write_text(text)
        (home / "data").mkdir()
        environment = {
            "HOME": str(home), "ERL_CRASH_DUMP": str(home / "crash"),
            "ERL_EPMD_PORT": str(mapper), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_FEATURE_FLAGS_FILE": str(home / "data" / "feature_flags"),
            "RABBITMQ_NODENAME": f"fedbus-bench-{amqp}@localhost", "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(home / "data"), "RABBITMQ_LOG_BASE": str(home / "logs"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"), "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"), "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": QUIET,
        }  # fmt: skip
        mapping = [epmd, "-port", str(mapper), "-address", "127.0.0.1"]
        self._servers.append(ServerProcess("epmd", mapping, home / "epmd.log", environment))
        await self._servers[-1].listening(mapper)
        self._servers.append(ServerProcess("rabbitmq-server", [binary], home / "log", environment))
        await self._servers[-1].listening(self._port)
        self._producer = rstream.Producer("127.0.0.1", port=self._port, username="guest", password="guest")  # noqa: S106
        await self._producer.start()
        self._version = f"{await self._server_version()}, rstream {client}"
        await self._producer.create_stream(STREAM)

    async def stop(self) -> None:
        """End client, node and epmd."""
        if self._producer is not None:
            await self._producer.close()
        for server in reversed(self._servers):
            await server.stop()
        self._directory.cleanup()

    def about(self, verb: str) -> About:
        """All verbs use streams."""
        tuning: dict[str, Any] = dict(self.tuning)
        if verb == "consume":
            tuning["acknowledged"] = f"as an offset, every {STORE_EVERY} events"
        return About(self._version, "stream, page cache (it never syncs)", "1 of 1", tuning)

    async def publish(self, load: Load) -> Sample:
        """Batches of ``batch`` messages, ``batches`` of them unconfirmed at most."""
        producer = await self._emptied()
        pairs = iter(load.pairs())
        watch = Stopwatch()

        async def one_after_another() -> None:
            while part := [payload for _, payload in islice(pairs, self.tuning.get("batch", 1000))]:
                await self._send(producer, part)

        await asyncio.gather(*(one_after_another() for _ in range(self.tuning.get("batches", 4))))
        return Sample(load.events, watch.seconds)

    async def fill(self, load: Load) -> None:
        """Store events."""
        await self.publish(load)

    async def consume(self, load: Load, *, durable: bool) -> Sample:
        """A named consumer that stores its offset; with ``durable`` the last one is read back."""
        consumer = await self._consumer()
        done = asyncio.Event()
        seen = 0

        async def read(_message: Any, context: Any) -> None:
            nonlocal seen
            seen += 1
            if seen % STORE_EVERY == 0 or seen == load.events:
                await consumer.store_offset(STREAM, load.name, context.offset)
            if seen == load.events:
                done.set()

        watch = Stopwatch()
        await consumer.subscribe(
            STREAM, read, decoder=bytes, initial_credit=self.tuning.get("credit", 10), subscriber_name=load.name
        )
        await done.wait()
        if durable:
            await consumer.query_offset(STREAM, load.name)
        seconds = watch.seconds
        await consumer.close()
        return Sample(load.events, seconds)

    async def latency(self, load: Load, rate_eps: float) -> Sample:
        """One message per frame, and a consumer of what is new."""
        import rstream

        producer = await self._emptied()
        consumer = await self._consumer()
        run = OpenLoop(load, rate_eps)

        async def read(message: bytes, _: Any) -> None:
            run.delivered(message)

        await consumer.subscribe(
            STREAM,
            read,
            decoder=bytes,
            offset_specification=rstream.ConsumerOffsetSpecification(rstream.OffsetType.NEXT),
        )
        try:
            return await run.run(lambda payload: self._send(producer, [payload]))
        finally:
            await consumer.close()

    async def _send(self, producer: Producer, messages: list[bytes]) -> None:
        """Send one frame and wait until all of it is confirmed."""
        confirmed = asyncio.get_running_loop().create_future()
        left = len(messages)

        def confirm(_: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                confirmed.set_result(None)

        await producer.send_batch(STREAM, messages, on_publish_confirm=confirm)
        await confirmed

    async def _emptied(self) -> Producer:
        assert self._producer is not None, "the system is not started"
        await self._producer.delete_stream(STREAM)
        await self._producer.create_stream(STREAM)
        return self._producer

    async def _consumer(self) -> Consumer:
        import rstream

        consumer = rstream.Consumer("127.0.0.1", port=self._port, username="guest", password="guest")  # noqa: S106
        await consumer.start()
        return consumer

    async def _server_version(self) -> str:
        assert self._producer is not None, "the system is not started"
        client = await self._producer.default_client
        return str((client.server_properties or {}).get("version", "?"))
