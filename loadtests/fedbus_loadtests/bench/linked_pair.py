"""Two regions of one instance each as a system under test: publishing to one, until it is durable in the other."""

from __future__ import annotations

import asyncio
import sys
from typing import Self

import zmq

import fedbus
from fedbus.broker import protocol as p
from fedbus.client.bus import Bus
from fedbus.client.producer import BATCH_EVENTS, LINGER_MS
from fedbus.errors import UnavailableError
from fedbus_actors.region_keys import open_keys
from fedbus_loadtests.bench.bus_under_test import STOP_INSTANCE_S, BusUnderTest
from fedbus_loadtests.bench.server_process import ServerProcess
from fedbus_loadtests.bench.system import About, Load, Sample, Stopwatch

ORIGIN, RECEIVER = "bench.origin", "bench.receiver"
FILTER = "bench.>"
POLL_S = 0.001
PATIENCE_S = 60.0
ANSWER_MS = 5_000


class LinkedPair(BusUnderTest):
    """``url``: the origin's; ``there``: the receiver's. Between them CURVE, as between all regions."""

    name = "link"

    def __init__(self) -> None:
        super().__init__()
        self.there = ""
        self._servers: list[ServerProcess] = []

    async def start(self) -> None:
        """Start both, the origin first."""
        keys = {region: open_keys(self.directory / region).public for region in (ORIGIN, RECEIVER)}
        origin = await self._start(ORIGIN, "--admit", RECEIVER, keys[RECEIVER])
        endpoint = (await origin.said("link tcp://")).split()[1]
        self.url = (await origin.said("clients ")).split()[1]
        pull = ("--pull", f"{ORIGIN}/b1/0", endpoint, keys[ORIGIN], FILTER)
        receiver = await self._start(RECEIVER, *pull)
        self.there = (await receiver.said("clients ")).split()[1]

    async def _start(self, region: str, *arguments: str) -> ServerProcess:
        command = [sys.executable, "-m", "fedbus_loadtests.bench.linked_instance", "--region", region]
        command += ["--data", str(self.directory / region), *arguments]
        server = ServerProcess(f"instance of {region}", command, self.directory / f"{region}.log")
        self._servers.append(server)
        return server

    async def stop(self) -> None:
        """End both."""
        for server in self._servers:
            await server.stop(STOP_INSTANCE_S)
        await super().stop()

    def about(self, verb: str) -> About:
        """Counted is what the receiver has on its disk."""
        tuning = {"linger_ms": LINGER_MS, "batch_events": BATCH_EVENTS} if verb == "publish" else {}
        base = super().about(verb)
        return About(base.version, "fsync in both regions", "1 of 1 in each", tuning)

    async def publish(self, load: Load) -> Sample:
        """One producer at the origin; done when the receiver has confirmed everything."""
        with Counting(self.there) as counting:
            await counting.until_linked()
            before = counting.linked_events
            pairs = load.pairs()
            async with self.connect() as bus:
                await bus.publish("warm.up", b"")
                watch = Stopwatch()
                async with bus.producer() as producer:
                    for topic, payload in pairs:
                        await producer.send(topic, payload)
                while counting.durable_events - before < load.events:
                    if watch.seconds > PATIENCE_S:
                        raise UnavailableError(f"{counting.durable_events - before} of {load.events} events crossed")
                    await asyncio.sleep(POLL_S)
                return Sample(load.events, watch.seconds)

    async def latency(self, load: Load, rate_eps: float) -> Sample:
        """Published at the origin, delivered by the receiver to a live subscription there."""
        with Counting(self.there) as counting:
            await counting.until_linked()
        return await super().latency(load, rate_eps)

    def connect_there(self) -> Bus:
        """At the receiver."""
        return fedbus.connect(self.there)


class Counting:
    """Asks an instance for its counters."""

    def __init__(self, url: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect(url)
        self._socket.send(p.encode(p.Hello(p.OLDEST_PROTOCOL_VERSION, p.PROTOCOL_VERSION, "probe", "bench")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    async def until_linked(self) -> None:
        """Wait until the link does nothing any more, so that rounds do not meet."""
        before = -1
        while (now := self.durable_events) != before or now < 0:
            before = now
            await asyncio.sleep(0.05)

    @property
    def linked_events(self) -> int:
        """Events that came over links."""
        return self._counters()["linked_events"]

    @property
    def durable_events(self) -> int:
        """The same once all of them are durable, else less than nothing."""
        counters = self._counters()
        return counters["linked_events"] if not counters["unconfirmed_bytes"] else -1

    def _counters(self) -> dict[str, int]:
        self._socket.send(p.encode(p.Ping()))
        while self._socket.poll(ANSWER_MS):
            message = p.decode_from_instance(self._socket.recv_multipart())
            if isinstance(message, p.Pong):
                return message.counters
        raise UnavailableError("the receiver does not answer")
