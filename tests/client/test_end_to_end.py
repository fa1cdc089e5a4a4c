"""The client against a real bus instance in this process."""

import asyncio
from collections import Counter
from datetime import UTC, datetime

import pytest

import fedbus
from tests.client.waiting import until


async def take(subscription, count):
    """Exactly ``count`` events."""
    events = []
    while len(events) < count:
        got = await subscription.take(count - len(events), 20)
        assert got, f"only {len(events)} of {count} events came"
        events += got
    return events


async def test_an_event_is_published_and_received_as_it_was(plain_broker):
    async with fedbus.connect(plain_broker, source="shop") as bus, bus.subscribe("orders.>") as live:
        receipt = await bus.publish(
            "orders.eu.created", {"id": 1}, key="customer-7", attributes={"traceid": "t"}, time="2026-01-31T12:00:00Z"
        )
        (event,) = await take(live, 1)
    assert (event.id, event.source, event.type, event.topic) == (
        receipt.id,
        "shop",
        "orders.eu.created",
        "orders.eu.created",
    )
    assert (event.data, event.key, event.attributes, event.time) == (
        {"id": 1},
        "customer-7",
        {"traceid": "t"},
        "2026-01-31T12:00:00Z",
    )
    assert event.position == receipt.position
    assert not receipt.duplicate


async def test_a_producer_loses_nothing_and_keeps_the_order(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        async with bus.producer() as out:
            for n in range(25_000):
                await out.send("n", {"n": n}, key=f"k{n % 7}" if n % 3 else None)
        assert out.acknowledged == 25_000
        async with bus.subscribe("n", start="earliest") as stored:
            events = await take(stored, 25_000)
    assert sorted(event.data["n"] for event in events) == list(range(25_000))
    per_key = {}
    for event in events:
        per_key.setdefault(event.key, []).append(event.data["n"])
    assert all(numbers == sorted(numbers) for numbers in per_key.values())
    assert len({event.id for event in events}) == 25_000


async def test_publishes_at_the_same_time_share_batches_and_get_their_own_receipts(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        receipts = await asyncio.gather(*(bus.publish(f"t{n % 5}", n, id=f"id-{n}") for n in range(500)))
    assert [receipt.id for receipt in receipts] == [f"id-{n}" for n in range(500)]
    assert {receipt.position.offset for receipt in receipts} == set(range(500))


async def test_finished_events_are_published_with_one_outcome_each(plain_broker):
    good = fedbus.Event(id="1", source="s", type="t", payload=b"{}")
    large = fedbus.Event(id="2", source="s", type="t", payload=bytes(2_000_000))
    async with fedbus.connect(plain_broker) as bus:
        first, second, third = await bus.publish_events([("a.b", good), ("a.b", large), ("not a topic", good)])
    assert first.position.offset == 0
    assert isinstance(second, fedbus.TooLargeError)
    assert isinstance(third, fedbus.InvalidTopicError)


async def test_a_group_gets_each_event_once_and_remembers_what_was_acknowledged(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        async with bus.producer() as out:
            for n in range(1000):
                await out.send("jobs.x", n)
        async with bus.subscribe("jobs.*", group="workers") as one, bus.subscribe("jobs.*", group="workers") as other:
            seen = Counter()

            async def work(subscription):
                while seen.total() < 1000:
                    for event in await subscription.take(50, 0.2):
                        seen[event.data] += 1
                        await event.ack()

            await asyncio.gather(work(one), work(other))
        assert set(seen.values()) == {1}
        await bus.publish("jobs.x", "last")
        async with bus.subscribe("jobs.*", group="workers") as again:
            assert [event.data for event in await take(again, 1)] == ["last"]
            assert await again.take(1, 0.1) == []


async def test_what_is_not_acknowledged_or_given_back_comes_again(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        for data in ("acked", "nacked", "forgotten"):
            await bus.publish("jobs", data)
        async with bus.subscribe("jobs", group="g") as first:
            acked, nacked, _ = await take(first, 3)
            await acked.ack(wait=True)
            await nacked.nack()
            (again,) = await take(first, 1)
            assert (again.data, again.delivery) == ("nacked", 2)
        async with bus.subscribe("jobs", group="g") as second:
            left = await take(second, 2)
        assert {event.data for event in left} == {"nacked", "forgotten"}


async def test_a_deadline_that_passes_means_redelivery(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        await bus.publish("jobs", 1)
        async with bus.subscribe("jobs", group="g", ack_deadline_ms=200) as subscription:
            first, again = await take(subscription, 2)
    assert (first.delivery, again.delivery) == (1, 2)
    assert first.position == again.position


async def test_the_same_group_with_another_filter_is_a_conflict(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        async with bus.subscribe("a", group="g"):
            pass
        with pytest.raises(fedbus.ConflictError, match="'g'"):
            await anext(bus.subscribe("b", group="g"))


async def test_streams_start_where_they_are_told(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        receipts = [await bus.publish("s", n) for n in range(3)]
        async with bus.subscribe("s") as live:
            await bus.publish("s", 3)
            assert [event.data for event in await take(live, 1)] == [3]
        async with bus.subscribe("s", start=receipts[1].position) as here:
            assert [event.data for event in await take(here, 2)] == [1, 2]
            cursor = here.cursor()
        async with bus.subscribe("s", start=cursor) as on:
            assert [event.data for event in await take(on, 1)] == [3]
        async with bus.subscribe("s", start=datetime(2020, 1, 1, tzinfo=UTC)) as all_of_it:
            assert [event.data for event in await take(all_of_it, 4)] == [0, 1, 2, 3]


async def test_a_slow_reader_gets_everything_with_little_credit(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        async with bus.producer(batch_events=10) as out:
            for n in range(300):
                await out.send("s", n)
        async with bus.subscribe("s", start="earliest", max_in_flight=3) as slow:
            assert [event.data for event in await take(slow, 300)] == list(range(300))


async def test_a_restart_on_the_same_port_loses_and_repeats_nothing(instances):
    url = instances.start()
    async with fedbus.connect(url) as bus, bus.subscribe("n") as live:
        received = []

        async def read():
            while True:
                received.append((await anext(live)).data)

        reading = asyncio.create_task(read())
        async with bus.producer(linger_ms=1) as out:
            for n in range(4000):
                await out.send("n", n, key="k")
                if n in (1000, 2500):
                    await asyncio.to_thread(instances.stop)
                    await asyncio.to_thread(instances.start)
        await until(lambda: len(received) >= 4000)
        reading.cancel()
    assert received == list(range(4000))


async def test_a_group_goes_on_after_a_restart(instances):
    url = instances.start()
    async with fedbus.connect(url) as bus:
        async with bus.producer() as out:
            for n in range(100):
                await out.send("n", n)
        async with bus.subscribe("n", group="g", max_in_flight=50) as group:
            first = await take(group, 50)
            for event in first[:-1]:
                await event.ack()
            await first[-1].ack(wait=True)
            await asyncio.to_thread(instances.stop)
            await asyncio.to_thread(instances.start)
            rest = await take(group, 50)
    assert [event.data for event in first + rest] == list(range(100))


async def test_new_instances_are_used_and_drained_ones_left(instances):
    url = instances.start("b1")
    instances.start("b2")
    instances.apply_table(1, b1="healthy")
    async with fedbus.connect(url) as bus, bus.subscribe("n") as live:
        for n in range(20):
            await bus.publish("n", n)
        instances.apply_table(2, b1="healthy", b2="healthy")
        await until(lambda: len(bus.taking_instances()) == 2)
        receipts = await asyncio.gather(*(bus.publish("n", n, key=f"k{n}") for n in range(20, 60)))
        assert {receipt.instance for receipt in receipts} == {"local.plain/b1", "local.plain/b2"}
        instances.running["b1"].drain()
        instances.apply_table(3, b1="draining", b2="healthy")
        receipts = [await bus.publish("n", n, key=f"k{n}") for n in range(60, 80)]
        assert {receipt.instance for receipt in receipts} == {"local.plain/b2"}
        assert sorted(event.data for event in await take(live, 80)) == list(range(80))


async def test_when_an_instance_dies_others_take_over_at_once_and_its_keys_after_a_moment(instances):
    url = instances.start("b1")
    instances.start("b2")
    instances.apply_table(1, b1="healthy", b2="healthy")
    async with fedbus.connect(url) as bus:
        await asyncio.gather(*(bus.publish("n", n, key=f"k{n}") for n in range(40)))
        await asyncio.to_thread(instances.stop, "b1")
        receipts = await asyncio.gather(*(bus.publish("n", n, key=f"k{n}" if n % 2 else None) for n in range(40)))
    assert {receipt.instance for receipt in receipts} == {"local.plain/b2"}


def test_the_blocking_verbs_do_the_same(plain_broker):
    with fedbus.connect_sync(plain_broker) as bus:
        receipt = bus.publish("orders.new", {"id": 1})
        with bus.producer() as out:
            out.send("orders.new", {"id": 2})
        with bus.subscribe("orders.>", group="g") as group:
            one, two = next(group), next(group)
            group.ack(one, wait=True)
            group.ack(two)
        assert (one.position, two.data) == (receipt.position, {"id": 2})
        with bus.subscribe("orders.>", group="g") as group:
            assert group.take(1, 0.1) == []
