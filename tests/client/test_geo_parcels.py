"""What waits for a second region holds nothing else up: neither its producer nor its lane."""

import asyncio

from fedbus.batch import Batch, BatchBuilder
from fedbus.broker import protocol as wire
from fedbus.broker.policies import TopicRule
from fedbus.client.bootstrap import Bootstrap
from fedbus.client.bus import Bus
from fedbus.client.parcel import Parcel
from fedbus.client.window import Window
from fedbus.errors import OverloadedError, UnavailableError
from fedbus.limits import DEFAULT
from tests.client.scripted import REGION, table_of
from tests.client.test_outbox import DEADLINE_NS, Sending
from tests.client.test_producer import answer
from tests.client.waiting import until

MILLISECOND = 1_000_000
GEO = "geo"


def post_geo(sending: Sending, *keys: int) -> Parcel:
    window = sending.producers.setdefault(GEO, Window(DEFAULT))
    builder = BatchBuilder()
    for key in keys:
        builder.add("s", key, b"x")
    parcel = Parcel(window, window.next_sequence(), builder.build(), None, DEADLINE_NS)
    parcel.geo = True
    window.add([parcel])
    sending.outbox.post(parcel, None)
    return parcel


def of_geo(sending: Sending) -> list[int]:
    return [parcel.order for _, parcel in sending.outbox.lanes["a"].flight.all() if parcel.geo]


async def test_a_refusal_for_want_of_a_region_holds_up_nothing_else():
    out = Sending("a")
    key, *_ = out.keys["a"]
    for _ in range(2):
        post_geo(out, key)
    line, lane = out.lines["a"], out.outbox.lanes["a"]
    line.answer(1, UnavailableError, retry_after_ms=500)
    line.answer(2, OverloadedError, retry_after_ms=50)  # the first comes first
    assert not lane.paused
    out.post(key)
    assert len(line.sent) == 3, "another producer's batch goes at once"
    out.clock.ns += 40 * MILLISECOND
    out.outbox.tick()
    assert of_geo(out) == []
    out.clock.ns += 20 * MILLISECOND
    out.outbox.tick()
    assert of_geo(out) == [1, 2], "in their order"
    line.answer(2)
    assert of_geo(out) == [1], "answers come in any order"


async def test_it_has_room_of_its_own_in_a_lane():
    out = Sending("a")
    key, *_ = out.keys["a"]
    most = DEFAULT.publish_window_batches
    for _ in range(most + 5):
        post_geo(out, key)
    assert len(out.lines["a"].sent) == most
    for _ in range(most + 5):
        out.post(key)
    assert len(out.lines["a"].sent) == 2 * most, "what needs this region alone goes past it"
    out.lines["a"].answer(1)
    assert len(out.lines["a"].sent) == 2 * most + 1


async def test_at_its_deadline_it_says_why_nothing_is_stored():
    out = Sending("a")
    parcel = post_geo(out, 0)
    out.lines["a"].answer(1, UnavailableError)
    out.clock.ns = DEADLINE_NS
    out.outbox.tick()
    failure = out.producers[GEO].failure
    assert failure is not None
    assert "nothing of them is stored (no)" in failure.detail
    assert parcel.tried == []


async def test_a_batch_holds_either_and_the_order_of_sending_stays(scripted):
    one = scripted(store=False)

    async def find():
        return Bootstrap(table_of(1, one), REGION, policies=[TopicRule(filter="s.>", durability="federation")])

    bus = Bus(find, wire.Hello(1, 1, "client", "t", REGION, True))
    async with bus, bus.producer(linger_ms=5) as out:
        for topic in ("a", "a", "s.x", "s.y", "a"):
            await out.send(topic, b"1", key="k")
        await until(lambda: len(one.of(wire.Publish)) == 3)
        publishes = [each for each in one.received if isinstance(each[1], wire.Publish)]
        topics = [Batch.decode(frames[1], frames[2]).topics for _, _, frames in publishes]
        assert [sorted(each) for each in topics] == [["a"], ["s.x", "s.y"], ["a"]]
        names = [message.producer for _, message, _ in publishes]
        assert names[0] == names[2] != names[1], "each has its own numbers"
        flushing = asyncio.create_task(out.flush())
        for place in (0, 2, 1):
            assert not flushing.done()
            answer(one, place)
            await asyncio.sleep(0)
        await flushing
        assert out.acknowledged == 5
