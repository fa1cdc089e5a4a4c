"""Producers: how batches are made, bounded, compressed and placed, and what becomes of them when owners change."""

import asyncio
import os
import threading

import msgspec
import pytest

import fedbus
from fedbus.batch import Batch
from fedbus.broker import protocol as wire
from fedbus.broker.policies import TopicRule
from fedbus.client.bootstrap import Bootstrap
from fedbus.client.bus import Bus
from fedbus.keys import identity_hash, key_hash
from fedbus.limits import KIB, Limits
from fedbus.storage.ledger_files import LedgerFiles
from tests.client.scripted import REGION, table_of
from tests.client.test_connection import key_of
from tests.client.waiting import until


def answer(instance, place=-1, **fields):
    """Answer one of the publishes an instance has received; by default as stored at 0."""
    publishes = [each for each in instance.received if isinstance(each[1], wire.Publish)]
    session, message, frames = publishes[place]
    count = Batch.decode(frames[1], frames[2]).count
    instance.send(session, wire.Published(**{"request": message.request, "ledger": instance.ledger,
                                             "first_offset": 0, "count": count} | fields))  # fmt: skip


async def test_compressed_batches_hold_one_topic_and_arrive_as_they_were_sent(instances):
    url = instances.start()
    sent = [("a.b" if n % 3 else "c", {"n": n, "text": "always the same"}) for n in range(600)]
    async with fedbus.connect(url) as bus:
        async with bus.producer(compression="zstd", batch_events=100) as out:
            for n, (topic, data) in enumerate(sent):
                await out.send(topic, data, key=str(n % 7))
        got = []
        async with bus.subscribe(">", group="g", max_in_flight=30) as one, bus.subscribe(">", group="g") as two:

            async def work(subscription):
                while len(got) < len(sent):
                    for event in await subscription.take(10, 0.2):
                        got.append((event.topic, event.data))
                        await event.ack()

            await asyncio.gather(work(one), work(two))
    assert sorted(got, key=lambda each: each[1]["n"]) == sent
    assert instances.running["b1"].status().counters["bytes_in"] < 600 * 60


async def test_an_unknown_compression_is_refused_at_once(scripted):
    async with fedbus.connect(scripted().endpoint) as bus:
        with pytest.raises(fedbus.ConfigurationError):
            bus.producer(compression="lz4")


async def test_in_flight_is_what_the_producer_was_told(scripted):
    one = scripted(store=False)
    async with fedbus.connect(one.endpoint) as bus:
        out = bus.producer(batch_events=1, max_in_flight=3)
        sending = asyncio.create_task(send_all(out, 10))
        await until(lambda: len(one.published()) == 3)
        assert not sending.done()
        one.store = True
        for at in range(3):
            answer(one, at)
        await sending
    assert len(one.published()) == 10


async def send_all(out, count, **options):
    for n in range(count):
        await out.send("n", n, **options)
    await out.flush()


async def test_an_idempotent_producer_says_so_and_names_its_tries_by_attempt(scripted):
    one, two = scripted("b1", store=False), scripted("b2")
    one.table = two.table = table_of(1, one, two)
    async with fedbus.connect(two.endpoint) as bus, bus.producer(idempotent=True) as out:
        key = key_of(bus, one)
        await out.send("n", 1, key=key)
        await out.send("n", 2, key=key)
        await until(one.published)
        one.close()
        two.push(table_of(2, two))
    [first] = one.of(wire.Publish)
    [again] = two.of(wire.Publish)
    assert (first.idempotent, first.attempt, first.tried) == (True, 1, [])
    assert (again.idempotent, again.attempt, again.tried) == (True, 2, [wire.Tried(one.ledger, first.sequence)])


async def test_parts_of_a_batch_name_the_whole_and_are_told_where_it_is(scripted):
    one, two, three = scripted("b1", store=False), scripted("b2", store=False), scripted("b3", store=False)
    one.table = two.table = three.table = table_of(1, one, two, three)
    async with fedbus.connect(two.endpoint, publish_timeout_ms=20_000) as bus:
        keys = [k for k in map(str, range(300)) if bus.router.owner(key_hash(k)).instance == one.name]
        calls = [asyncio.create_task(bus.publish("n", key, key=key)) for key in keys]
        await until(one.published)
        one.close()
        two.push(table_of(2, two, three))
        await until(lambda: two.published() and three.published())
        answer(two, as_sequence=1, ledger=one.ledger, first_offset=100, count=len(keys), duplicate=True)
        answer(three, first_offset=5)
        receipts = await asyncio.gather(*calls)
    for instance in (two, three):
        [publish] = instance.of(wire.Publish)
        assert publish.tried == [wire.Tried(one.ledger, 1)]
        assert publish.sequence > 1
    there = {receipt.id for receipt in receipts if receipt.instance == two.name}
    assert there == set(two.published()[0][1])
    for place, receipt in enumerate(receipts):
        if receipt.id in there:
            assert (receipt.position.ledger, receipt.position.offset) == (one.ledger, 100 + place)
        else:
            assert receipt.position.offset == 5 + three.published()[0][1].index(receipt.id)


async def test_the_receipt_of_an_event_seen_before_names_the_first_copy(scripted):
    one = scripted(store=False)
    async with fedbus.connect(one.endpoint) as bus:
        events = [("n", fedbus.Event(id=str(n), source="s", type="n")) for n in range(4)]
        publishing = asyncio.create_task(bus.publish_events(events))
        await until(one.published)
        copies = [wire.FirstCopy(1, "r/old/7", 70), wire.FirstCopy(2, one.ledger, 3)]
        answer(one, first_offset=10, count=2, first_copies=copies)
        receipts = await publishing
    assert [(r.position.ledger, r.position.offset, r.duplicate) for r in receipts] == [
        (one.ledger, 10, False), ("r/old/7", 70, True), (one.ledger, 3, True), (one.ledger, 11, False),
    ]  # fmt: skip


async def test_events_of_topics_with_a_dedup_window_are_placed_by_source_and_id(scripted):
    one, two = scripted("b1"), scripted("b2")
    one.table = two.table = table_of(1, one, two)

    async def find():
        return Bootstrap(one.table, REGION, policies=[TopicRule(filter="once", dedup_window_ms=1000)])

    bus = Bus(find, wire.Hello(1, 1, "client", "t", want_table=True), source="s", check_schemas=False)
    async with bus:
        for _ in range(2):
            await bus.publish_events([("once", fedbus.Event(id=str(n), source="s", type="n")) for n in range(50)])
        async with bus.producer() as out:
            for n in range(50):
                await out.send("once", n, id=str(n))
            await out.send("often", 1)
        owners = {str(n): bus.router.owner(identity_hash("s", str(n)) & 0xFFFFFFFF).instance for n in range(50)}
    seen = 0
    for instance in (one, two):
        for _, _, frames in [each for each in instance.received if isinstance(each[1], wire.Publish)]:
            batch = Batch.decode(frames[1], frames[2])
            for (topic, _, data), hashed in zip(batch.events(), batch.ids, strict=True):
                id = fedbus.Event.decode(data).id
                if topic == "once":
                    assert (hashed, instance.name) == (identity_hash("s", id), owners[id])
                    seen += 1
                else:
                    assert hashed == 0
    assert seen == 150
    assert set(owners.values()) == {one.name, two.name}


async def test_what_an_old_owner_refuses_is_stored_before_what_came_later(scripted):
    """Order per key: nothing overtakes a batch that is still with the former owner of its keys."""
    one, two = scripted("b1", store=False), scripted("b2")
    one.table = two.table = table_of(1, one, two)
    async with fedbus.connect(two.endpoint) as bus, bus.producer(batch_events=1) as out:
        key = key_of(bus, one)
        other = key_of(bus, two)
        for n in range(3):
            await out.send("n", n, key=key, id=str(n))
        await until(lambda: len(one.published()) == 3)
        two.push(table_of(2, one, two, states={one.name: "draining"}))
        await until(lambda: bus.router.owner(key_hash(key)).instance == two.name)
        await out.send("n", 3, key=key, id="3")
        await out.send("n", 4, key=other, id="other")
        await bus.publish("n", "by another producer", key=key, id="free")
        assert [ids for _, ids in two.published()] == [["free"]], "the lane waits behind what has to wait"
        for session, message, _ in [each for each in one.received if isinstance(each[1], wire.Publish)]:
            one.send(session, wire.Refused(message.request, "draining", "leaving", True))
        await out.flush()
    assert [ids for _, ids in two.published()] == [["free"], ["0"], ["1"], ["2"], ["3"], ["other"]]
    assert len(one.published()) == 3


async def test_an_overload_that_lasts_is_what_the_publisher_is_told_with_a_hint(scripted):
    one = scripted(store=False)
    async with fedbus.connect(one.endpoint, publish_timeout_ms=400) as bus:
        publishing = asyncio.create_task(bus.publish("n", 1))
        while not publishing.done():
            for session, message, _ in [each for each in one.received if isinstance(each[1], wire.Publish)]:
                one.send(session, wire.Refused(message.request, "overloaded", "the disk is slow", True, 70))
            one.received.clear()
            await asyncio.sleep(0.005)
        with pytest.raises(fedbus.OverloadedError, match=r"nothing of them is stored.*the disk is slow") as caught:
            await publishing
    assert caught.value.retry_after_ms == 70
    assert caught.value.retryable


class Gate:
    """A disk whose syncs wait while it is shut."""

    def __init__(self, monkeypatch):
        self.open = threading.Event()
        self.open.set()
        sync = LedgerFiles.sync

        def wait(files):
            self.open.wait()
            sync(files)

        monkeypatch.setattr(LedgerFiles, "sync", wait)


async def test_a_slow_disk_slows_producers_down_in_bounded_memory(instances, monkeypatch):
    gate = Gate(monkeypatch)
    limits = msgspec.structs.replace(
        Limits(), batch_bytes=64 * KIB, event_bytes=16 * KIB, publish_window_bytes=128 * KIB,
        uncommitted_bytes=256 * KIB,
    )  # fmt: skip
    url = instances.start(limits=limits)
    body = os.urandom(4 * KIB)
    async with fedbus.connect(url) as bus:
        await bus.publish("n", b"first")
        outs = [bus.producer(batch_bytes=16 * KIB, linger_ms=1) for _ in range(6)]
        gate.open.clear()
        sent = [0] * len(outs)

        async def produce(at):
            for _ in range(100):
                await outs[at].send("n", body)
                sent[at] += 1
            await outs[at].flush()

        producing = [asyncio.create_task(produce(at)) for at in range(len(outs))]
        instance = instances.running["b1"]
        await until(lambda: instance.status().counters["unconfirmed_bytes"] > 100 * KIB)
        before = [-1]
        while before != sent:  # everybody waits
            before = list(sent)
            await asyncio.sleep(0.3)
        counters = instance.status().counters
        assert counters["unconfirmed_bytes"] < limits.uncommitted_bytes + limits.batch_bytes
        held = sum(sent) * len(body)
        assert held < len(outs) * (limits.publish_window_bytes + 2 * limits.batch_bytes)
        assert not any(task.done() for task in producing)
        gate.open.set()
        await asyncio.gather(*producing)
        events = []
        async with bus.subscribe("n", group="g") as subscription:
            while len(events) < 601:
                events += await subscription.take(500, 20)
    assert len(events) == len({event.id for event in events}) == 601
