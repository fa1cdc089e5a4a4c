"""Fedbus as a system under test: through its public API, against real bus instance processes.

One instance is a plain process. Several are a managed region of ``fedbus up``, because only a manager gives out the
ledgers that they replicate for one another. Ours always syncs before it acknowledges, and its client is not tuned.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import msgspec

import fedbus
from fedbus.client.bus import Bus
from fedbus.client.producer import BATCH_EVENTS, LINGER_MS
from fedbus.errors import UnavailableError
from fedbus_loadtests.bench.crowd import Crowd
from fedbus_loadtests.bench.open_loop import OpenLoop
from fedbus_loadtests.bench.region_watch import RegionWatch
from fedbus_loadtests.bench.server_process import ServerProcess
from fedbus_loadtests.bench.system import About, Load, Sample, Stopwatch, System, Tuning
from fedbus_loadtests.ports import free_blocks, free_port

REGION = "bench.local"
FILTER = "bench.>"
PORTS = 20
STOP_INSTANCE_S, START_REGION_S, STOP_REGION_S = 10.0, 180.0, 60.0
TOGETHER = 1000  # durable acknowledgements waited for at the same time


class BusUnderTest(System):
    """``replicas`` copies of every ledger; ``instances`` (default: as many) bus instances; ``managed``: by Ray."""

    name = "fedbus"
    choices: ClassVar[Mapping[str, Sequence[Tuning]]] = {
        "fanout": tuple({"window": window} for window in (100, 500, 2000)),
    }

    def __init__(self, *, replicas: int = 1, instances: int | None = None, managed: bool = False) -> None:
        super().__init__()
        self.replicas = replicas
        self.instances = instances or replicas
        self.managed = managed or self.instances > 1
        self.directory = Path(tempfile.mkdtemp(prefix="fedbus-bench-"))
        self.server: ServerProcess | None = None
        self.region: RegionWatch | None = None  # of a managed region
        self.url = ""
        self._filled = 0

    async def start(self) -> None:
        """Start the instance, or the region."""
        if self.managed:
            await self._start_region()
        else:
            await self.start_instance()

    async def start_instance(self) -> None:
        """Start the one instance, on whatever its directory holds."""
        command = [sys.executable, "-m", "fedbus_actors.bus_instance", "--region", REGION, "--port", "0"]
        command += ["--data", str(self.directory / "b1")]
        self.server = ServerProcess("bus instance", command, self.directory / "log")
        self.url = (await self.server.said("tcp://")).strip()

    async def stop(self) -> None:
        """End the processes and remove their data."""
        import shutil

        if self.server is not None:
            await self.server.stop(STOP_REGION_S if self.managed else STOP_INSTANCE_S)
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)

    def about(self, verb: str) -> About:
        """All verbs go through ledgers."""
        tuning: dict[str, int] = {}
        if verb in ("publish", "topics"):
            tuning = {"linger_ms": LINGER_MS, "batch_events": BATCH_EVENTS}
        elif verb == "consume":
            tuning = {"max_in_flight": 2000, "durable_acks_together": TOGETHER}
        quorum = f"{self.replicas} of {self.replicas}"
        return About(
            version("fedbus"), "fsync on every replica before the acknowledgement", quorum, tuning | dict(self.tuning)
        )

    def connect(self) -> Bus:
        """A bus of this process."""
        return fedbus.connect(self.url)

    def connect_there(self) -> Bus:
        """A bus where what was published is to be delivered."""
        return self.connect()

    async def publish(self, load: Load) -> Sample:
        """One producer, with its defaults unless ``tuning`` says ``batch_events``; flushed at the end."""
        pairs = load.pairs()
        async with self.connect() as bus:
            await bus.publish("warm.up", b"")
            watch = Stopwatch()
            async with bus.producer(batch_events=self.tuning.get("batch_events", BATCH_EVENTS)) as producer:
                for topic, payload in pairs:
                    await producer.send(topic, payload)
            seconds = watch.seconds
            if producer.acknowledged != load.events:
                raise UnavailableError(f"fedbus acknowledged {producer.acknowledged} of {load.events} events")
        return Sample(load.events, seconds)

    async def fill(self, load: Load) -> None:
        """Store events."""
        await self.publish(load)

    async def consume(self, load: Load, *, durable: bool) -> Sample:
        """A new group from the earliest event on; closing the subscription makes what is buffered durable."""
        async with self.connect() as bus:
            watch = Stopwatch()
            async with bus.subscribe(FILTER, group=load.name) as subscription:
                if durable:
                    await _consume_durably(subscription, load.events)
                else:
                    left = load.events
                    async for event in subscription:
                        await event.ack()
                        left -= 1
                        if not left:
                            break
            return Sample(load.events, watch.seconds)

    async def latency(self, load: Load, rate_eps: float) -> Sample:
        """``bus.publish`` per event, and a live subscription on a connection of its own."""
        run = OpenLoop(load, rate_eps)
        topic = load.topics[0]
        async with self.connect() as bus, self.connect_there() as other, other.subscribe(topic) as subscription:
            await bus.publish("warm.up", b"")

            async def read() -> None:
                async for event in subscription:
                    run.delivered(event.payload or b"")

            reading = asyncio.create_task(read())
            try:
                return await run.run(lambda payload: bus.publish(topic, payload))
            finally:
                reading.cancel()

    async def fanout(self, load: Load, connections: int) -> Sample:
        """Live subscriptions, one per connection; what they get is on disk by then."""
        crowd = Crowd(connections, self.tuning.get("window", 500))
        topic = load.topics[0]

        async def read(subscription: Any) -> None:
            async for _ in subscription:
                crowd.arrived()

        async with contextlib.AsyncExitStack() as stack:
            subscriptions = []
            for _ in range(connections):
                bus = await stack.enter_async_context(self.connect())
                subscriptions.append(await stack.enter_async_context(bus.subscribe(topic)))
            bus = await stack.enter_async_context(self.connect())
            producer = await stack.enter_async_context(bus.producer())
            reading = [asyncio.create_task(read(subscription)) for subscription in subscriptions]
            try:
                return await crowd.run(load, lambda payload: producer.send(topic, payload))
            finally:
                for task in reading:
                    task.cancel()

    async def _start_region(self) -> None:
        port, first = free_port(), free_blocks(1, PORTS, self.instances + 1)
        options = {
            "name": f"bench-{port}",
            "regions": {
                REGION: {
                    "instances": {"min": self.instances, "max": self.instances, "initial": self.instances},
                    "replicas": self.replicas,
                    "min_copies": self.replicas,
                    "listen": {"ports": f"{first}-{first + PORTS - 1}"},
                }
            },
            "gateway": {"port": port},
            "data": {"directory": str(self.directory / "data")},
        }
        file = self.directory / "federation.yaml"  # JSON is YAML
        file.write_bytes(msgspec.json.encode(options))
        self.url = f"http://127.0.0.1:{port}"
        command = [str(Path(sys.executable).with_name("fedbus")), "up", "-c", str(file)]
        self.server = ServerProcess("fedbus up", command, self.directory / "log")
        await self.server.said("ready after", START_REGION_S)
        self.region = RegionWatch(self.url, self.instances, self.replicas)
        await self.region.complete()


async def _consume_durably(subscription: Any, events: int) -> None:
    left = events
    while left:
        taken = await subscription.take(min(TOGETHER, left), 10.0)
        if not taken:
            raise UnavailableError(f"fedbus handed out {events - left} of {events} events")
        left -= len(taken)
        await subscription.ack(taken, wait=True)
