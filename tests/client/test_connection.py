"""Sessions with instances that restart, fall silent, refuse and move, played by a script."""

import asyncio

import pytest

import fedbus
from fedbus.batch import BatchBuilder
from fedbus.broker import protocol as wire
from fedbus.keys import key_hash
from fedbus.limits import Limits
from tests.client.scripted import restarted, table_of
from tests.client.waiting import until


def batch(*values, topic="n"):
    builder = BatchBuilder()
    for value in values:
        builder.add(
            topic,
            0,
            fedbus.Event(
                id=str(value), source="s", type=topic, datacontenttype="application/json", payload=str(value).encode()
            ).encode(),
        )
    built = builder.build()
    return built.index_bytes, built.payload


def key_of(bus, instance):
    """A key that belongs to this instance."""
    return next(k for k in map(str, range(10_000)) if bus.router.owner(key_hash(k)).instance == instance.name)


async def test_a_batch_without_answer_is_sent_again_after_a_restart_with_the_same_sequence(scripted):
    one = scripted(store=False)
    async with fedbus.connect(one.endpoint) as bus:
        publishing = asyncio.create_task(bus.publish("n", 1, id="e"))
        await until(one.published)
        one.close()
        again = await restarted(scripted, one)
        receipt = await publishing
    assert again.published() == one.published() == [(1, ["e"])]
    assert again.of(wire.Publish)[0].producer == one.of(wire.Publish)[0].producer
    assert receipt.position.ledger == again.ledger
    sent = again.of(wire.Publish)[0]
    assert (sent.tried, sent.attempt) == ([wire.Tried(one.ledger, 1)], 2), "in case it came back without its disk"


async def test_batches_go_out_again_in_their_order(scripted):
    one = scripted(store=False)
    async with fedbus.connect(one.endpoint) as bus, bus.producer(batch_events=1) as out:
        for n in range(20):
            await out.send("n", n, key="k", id=str(n))
        await until(lambda: len(one.published()) == 20)
        one.close()
        again = await restarted(scripted, one)
        await out.flush()
    assert [ids for _, ids in again.published()] == [[str(n)] for n in range(20)]
    assert [sequence for sequence, _ in again.published()] == list(range(1, 21))


async def test_an_instance_that_forgot_the_session_gets_a_new_one(scripted):
    one = scripted()
    async with fedbus.connect(one.endpoint) as bus:
        await bus.publish("n", 1)
        one.sessions.clear()
        receipt = await bus.publish("n", 2)
    assert receipt.position.offset == 1
    assert len(one.sessions) == 1


async def test_a_live_subscription_goes_on_from_its_cursor_without_loss_or_repetition(scripted):
    one = scripted()
    async with fedbus.connect(one.endpoint) as bus:
        subscription = bus.subscribe("n")
        entering = asyncio.create_task(subscription.__aenter__())
        await until(lambda: one.of(wire.Subscribe))
        session, asked, _ = one.received[-1]
        assert asked.start.kind == "latest"
        one.send(session, wire.Subscribed(asked.request, asked.subscription, {one.ledger: 10}))
        await entering
        one.send(session, wire.Deliver(asked.subscription, one.ledger, [(10, 12)], 12), *batch(10, 11))
        assert [event.data for event in await subscription.take(2, 20)] == [10, 11]
        one.sessions.clear()  # the instance restarts in place: it knows nobody
        await until(lambda: len(one.of(wire.Subscribe)) == 2)
        session, asked, _ = one.received[-1]
        assert (asked.start.kind, asked.start.cursor) == ("cursor", {one.ledger: 12})
        younger = f"{one.name}/2"
        one.send(session, wire.Subscribed(asked.request, asked.subscription, {one.ledger: 14, younger: 1}))
        one.send(session, wire.Deliver(asked.subscription, one.ledger, [(11, 14)], 14), *batch(11, 12, 13))
        one.send(session, wire.Deliver(asked.subscription, younger, [(0, 1)], 1), *batch(0))
        await until(lambda: len(subscription.inflow.queue) == 2)
        assert [event.data for event in await subscription.take(9, 20)] == [12, 13, 0]


async def test_credit_is_given_back_and_acks_leave_as_ranges(scripted):
    one = scripted()
    async with fedbus.connect(one.endpoint) as bus:
        subscription = bus.subscribe("n", group="g", max_in_flight=4)
        entering = asyncio.create_task(subscription.__aenter__())
        await until(lambda: one.of(wire.Subscribe))
        session, asked, _ = one.received[-1]
        assert (asked.start.kind, asked.credit, asked.group) == ("earliest", 4, "g")
        one.send(session, wire.Subscribed(asked.request, asked.subscription, {}))
        await entering
        one.send(session, wire.Deliver(asked.subscription, one.ledger, [(0, 2), (7, 9)], 9), *batch(0, 1, 7, 8))
        events = await subscription.take(4, 20)
        assert [event.position.offset for event in events] == [0, 1, 7, 8]
        for event in events:
            await event.ack()
        await until(lambda: one.of(wire.Ack))
        assert sum(credit.events for credit in one.of(wire.Credit)) == 4
        assert one.of(wire.Ack)[0].settled == [wire.Settled(one.ledger, [(0, 2), (7, 9)])]


async def test_an_ack_somebody_waits_for_is_sent_again_in_the_next_session(scripted):
    one = scripted()
    async with fedbus.connect(one.endpoint) as bus:
        subscription = bus.subscribe("n", group="g")
        entering = asyncio.create_task(subscription.__aenter__())
        await until(lambda: one.of(wire.Subscribe))
        session, asked, _ = one.received[-1]
        one.send(session, wire.Subscribed(asked.request, asked.subscription, {}))
        await entering
        one.send(session, wire.Deliver(asked.subscription, one.ledger, [(5, 6)], 6), *batch(5))
        (event,) = await subscription.take(1, 20)
        acking = asyncio.create_task(event.ack(wait=True))
        await until(lambda: one.of(wire.Ack))
        one.sessions.clear()
        await until(lambda: len(one.of(wire.Subscribe)) == 2)
        session, asked, _ = one.received[-1]
        one.send(session, wire.Subscribed(asked.request, asked.subscription, {}))
        await until(lambda: len(one.of(wire.Ack)) == 2)
        ack = one.of(wire.Ack)[1]
        assert ack.settled == [wire.Settled(one.ledger, [(5, 6)])]
        assert not acking.done()
        one.send(session, wire.Ok(ack.request))
        await acking


async def test_a_silent_owner_is_passed_over_and_named(scripted):
    one, two = scripted("b1"), scripted("b2")
    one.table = two.table = table_of(1, one, two)
    async with fedbus.connect(one.endpoint) as bus:
        key = key_of(bus, one)
        await bus.publish("n", 0, key=key)
        one.silent = True
        receipt = await bus.publish("n", 1, key=key, id="e")
        keyless = await bus.publish("n", 2)
    assert receipt.instance == keyless.instance == two.name
    sent = two.of(wire.Publish)[0]
    assert sent.unreachable == [one.name]
    assert sent.tried == [wire.Tried(one.ledger, 2)]
    assert (sent.attempt, sent.idempotent) == (2, False)


async def test_a_new_table_moves_what_waits_for_a_lost_owner(scripted):
    one, two = scripted("b1"), scripted("b2")
    one.table = two.table = table_of(1, one, two)
    async with fedbus.connect(two.endpoint) as bus:
        key = key_of(bus, one)
        await bus.publish("n", 0, key=key)
        one.close()
        publishing = asyncio.create_task(bus.publish("n", 1, key=key))
        await asyncio.sleep(0)
        two.push(table_of(2, two))
        receipt = await publishing
        assert [route.instance for route in bus.router.instances()] == [two.name]
    assert receipt.instance == two.name
    assert two.of(wire.Publish)[-1].table_version == 2


async def test_older_tables_are_ignored(scripted):
    one, two = scripted("b1"), scripted("b2")
    one.table = table_of(5, one)
    async with fedbus.connect(one.endpoint) as bus:
        one.push(table_of(4, one, two))
        await bus.publish("n", 1)
        assert [route.instance for route in bus.router.instances()] == [one.name]


async def test_an_overloaded_instance_is_asked_again_later_and_the_order_kept(scripted):
    one = scripted(store=False)
    async with fedbus.connect(one.endpoint) as bus, bus.producer(batch_events=1) as out:
        for n in range(3):
            await out.send("n", n, key="k", id=str(n))
        await until(lambda: len(one.published()) == 3)
        one.store = True
        for session, message, _ in list(one.received):
            one.send(session, wire.Refused(message.request, "overloaded", "full", True, 20))
        await out.flush()
    assert [ids for _, ids in one.published()[3:]] == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize(
    ("code", "kind"),
    [("schema_mismatch", fedbus.SchemaMismatchError), ("sequence_below_window", fedbus.SequenceError)],
)
async def test_a_refusal_for_good_raises_its_type(scripted, code, kind):
    one = scripted(store=False)
    async with fedbus.connect(one.endpoint) as bus:
        publishing = asyncio.create_task(bus.publish("n", 1))
        await until(lambda: one.received)
        session, message, _ = one.received[0]
        one.send(session, wire.Refused(message.request, code, "no", False))
        with pytest.raises(kind, match="no"):
            await publishing


async def test_a_draining_instance_is_left_for_another(scripted):
    one, two = scripted("b1", store=False), scripted("b2")
    one.table = two.table = table_of(1, one, two)
    async with fedbus.connect(one.endpoint) as bus:
        key = key_of(bus, one)
        publishing = asyncio.create_task(bus.publish("n", 1, key=key))
        while not publishing.done():
            for session, message, _ in [r for r in one.received if isinstance(r[1], wire.Publish)]:
                one.send(session, wire.Refused(message.request, "draining", "leaving", True))
            one.received.clear()
            await asyncio.sleep(0.005)
        assert publishing.result().instance == two.name
    assert two.of(wire.Publish)[0].unreachable == [one.name]
    assert two.of(wire.Publish)[0].tried == [], "a refusal says that nothing is stored"


async def test_a_batch_whose_keys_part_ways_is_split_and_its_parts_get_new_sequences(scripted):
    one, two, three = scripted("b1"), scripted("b2"), scripted("b3")
    one.table = two.table = three.table = table_of(1, one, two, three)
    async with fedbus.connect(two.endpoint) as bus:
        keys = [k for k in map(str, range(3000)) if bus.router.owner(key_hash(k)).instance == one.name]
        one.store = False
        async with bus.producer() as out:
            for key in keys:
                await out.send("n", key, key=key, id=key)
            await until(one.published)
            one.close()
            two.push(table_of(2, two, three))
    ids = {name: [i for _, batch in each.published() for i in batch] for name, each in (("two", two), ("three", three))}
    assert sorted(ids["two"] + ids["three"]) == sorted(keys)
    assert ids["two"]
    assert ids["three"]
    first = {sequence for sequence, _ in one.published()}
    assert first.isdisjoint({sequence for each in (two, three) for sequence, _ in each.published()})
    assert all([tried.ledger for tried in message.tried] == [one.ledger] for message in two.of(wire.Publish))


async def test_a_publish_that_nobody_answers_ends_at_its_deadline_and_says_what_is_unknown(scripted):
    one = scripted(store=False)
    async with fedbus.connect(one.endpoint, publish_timeout_ms=300) as bus:
        with pytest.raises(fedbus.UnavailableError, match=rf"unknown.*{one.ledger}"):
            await bus.publish("n", 1)


async def test_a_fast_producer_waits_instead_of_filling_memory(scripted):
    one = scripted(store=False, limits=Limits(publish_window_batches=4))
    async with fedbus.connect(one.endpoint) as bus:
        producer = bus.producer(batch_events=1)
        sent = 0

        async def produce():
            nonlocal sent
            for n in range(100):
                await producer.send("n", n)
                sent += 1
            await producer.flush()

        producing = asyncio.create_task(produce())
        await until(lambda: len(one.published()) == 4)
        assert sent <= 4
        one.store = True
        for session, message, frames in list(one.received):
            one.answer(session, message, frames)
        await producing
    assert len(one.published()) == 100


async def test_a_producer_raises_what_failed_when_it_is_left(scripted):
    one = scripted(store=False)
    async with fedbus.connect(one.endpoint, publish_timeout_ms=300) as bus:
        out = await bus.producer().__aenter__()
        await out.send("n", 1)
        await out.send("n", 2)
        with pytest.raises(fedbus.UnavailableError) as caught:
            await out.__aexit__(None, None, None)
    assert "2 event(s)" in caught.value.__notes__[0]


async def test_an_instance_of_an_unknown_protocol_says_so_at_once(scripted, monkeypatch):
    one = scripted()
    monkeypatch.setattr(one, "_handle", lambda session, *_: one.send(session, wire.Refused(0, "protocol", "too old")))
    with pytest.raises(fedbus.ProtocolError, match="too old"):
        async with fedbus.connect(one.endpoint):
            pass


async def test_a_port_where_nobody_listens_is_named(unused_tcp_port, monkeypatch):
    monkeypatch.setattr("fedbus.client.bootstrap.TIMEOUT_S", 0.2)
    with pytest.raises(fedbus.UnavailableError, match=str(unused_tcp_port)):
        async with fedbus.connect(f"tcp://127.0.0.1:{unused_tcp_port}"):
            pass


async def test_several_urls_are_tried_in_their_order(scripted, unused_tcp_port):
    one = scripted()
    async with fedbus.connect([f"http://127.0.0.1:{unused_tcp_port}", one.endpoint]) as bus:
        assert (await bus.publish("n", 1)).instance == one.name


async def test_an_unknown_region_is_named_with_those_there_are(scripted):
    with pytest.raises(fedbus.NotFoundError, match=r"'mars'.*local\.plain"):
        async with fedbus.connect(scripted().endpoint, region="mars"):
            pass


@pytest.mark.parametrize(("url", "options"), [("ftp://x", {}), ([], {}), ("http://x", {"transport": "http"})])
def test_what_cannot_be_connected_to_is_refused_before_anything_is_tried(url, options):
    with pytest.raises(fedbus.ConfigurationError):
        fedbus.connect(url, **options)


async def test_a_bus_that_is_not_open_says_so():
    bus = fedbus.connect("http://127.0.0.1:1")
    with pytest.raises(fedbus.ClosedError, match="async with"):
        await bus.publish("n", 1)
