"""Every verb of every system, in tiny rounds against its real servers."""

import asyncio

import pytest

from fedbus.errors import ConfigurationError
from fedbus_loadtests.bench.bus_under_test import BusUnderTest
from fedbus_loadtests.bench.peers.nats import Nats
from fedbus_loadtests.bench.peers.rabbitmq import RabbitMQ
from fedbus_loadtests.bench.peers.redis import Redis
from fedbus_loadtests.bench.system import Load, random_payloads

PAYLOADS = random_payloads(64, 50)


def load(events, name="g1", **changes):
    return Load(events, PAYLOADS, name=name, **changes)


async def publishes_consumes_and_measures(system):
    assert (await system.publish(load(300))).events == 300
    await system.fill(load(300))
    assert (await system.consume(load(300, "buffered"), durable=False)).events_per_s > 0
    assert (await system.consume(load(300, "durable"), durable=True)).events == 300
    sample = await system.latency(load(100), 500.0)
    assert len(sample.acknowledged_ms) == len(sample.delivered_ms) == 100
    assert min(sample.acknowledged_ms) > 0 < min(sample.delivered_ms)


async def test_ours():
    async with BusUnderTest() as system:
        await publishes_consumes_and_measures(system)
        assert (await system.publish(load(300, topics=["bench.a", "bench.b"]))).events == 300
        assert (await system.fanout(load(40), 5)).events == 200
        assert "fsync" in system.about("publish").durability
    assert not system.directory.exists()


async def test_nats(needs):
    needs("nats")
    async with Nats(sync=True) as system:
        await publishes_consumes_and_measures(system)
        assert (await system.consume_pushed(load(100, "pushed"))).events == 100
        assert (await system.publish_atomically(load(1500))).events == 1500
        assert (await system.fanout(load(40), 5)).events == 200
        assert "always" in system.about("publish").durability
        assert "memory" in system.about("fanout").durability


async def test_a_nats_cluster_keeps_every_event_on_three_servers(needs):
    needs("nats")
    async with Nats(sync=False, replicas=3) as system:
        assert (await system.publish(load(200))).events == 200
        assert system.about("publish").quorum == "2 of 3"


async def test_redis(needs):
    needs("redis")
    async with Redis(sync=True) as system:
        await publishes_consumes_and_measures(system)
        assert (await system.fanout(load(40), 5)).events == 200


async def test_rabbitmq(needs):
    needs("rabbitmq")
    async with RabbitMQ() as system:
        await publishes_consumes_and_measures(system)
        with pytest.raises(ConfigurationError, match="--peer rabbitmq"):
            await system.fanout(load(40), 5)


async def test_servers_end_when_a_round_fails(needs):
    needs("nats")
    system = Nats(sync=False)
    with pytest.raises(asyncio.CancelledError):
        async with system:
            raise asyncio.CancelledError
    assert all(server.process.poll() is not None for server in system._servers)
