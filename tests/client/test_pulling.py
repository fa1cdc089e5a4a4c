"""A consumer that receives what it asks for, against real instances."""

import asyncio

import pytest

import fedbus
from fedbus.broker.group_spec import GroupRecord, GroupSpec
from fedbus.broker.protocol import EARLIEST
from fedbus.client.pulling import Pulling
from fedbus.clock import ManualClock, SystemClock
from fedbus.errors import NotFoundError, UnavailableError
from fedbus.position import Position

DEADLINE_MS = 30_000


@pytest.fixture
async def bus(plain_broker):
    async with fedbus.connect(plain_broker) as opened:
        yield opened


@pytest.fixture
async def pulling(bus):
    """A member of a new group, and what makes more of them."""
    made = []

    async def join(deadline_ms=DEADLINE_MS, clock=None):
        subscription = bus.subscribe("t", group="g", ack_deadline_ms=deadline_ms)
        made.append(Pulling(subscription, deadline_ms, clock or SystemClock()))
        await made[-1].open()
        return made[-1]

    yield join
    for each in made:
        await each.close()


async def publish(bus, *numbers):
    async with bus.producer() as out:
        for number in numbers:
            await out.send("t", {"n": number})


async def outstanding(instances):
    """Events that the instance has delivered and that are not settled."""
    [group] = instances.running["b1"].status().groups
    return group.outstanding


def numbers(pulled):
    return [each.event.data["n"] for each in pulled]


async def test_nothing_comes_before_it_is_asked_for(bus, pulling, instances):
    consumer = await pulling()
    await publish(bus, *range(50))
    assert await outstanding(instances) == 0
    assert numbers(await consumer.pull(10, 5.0)) == list(range(10))
    assert not consumer._subscription.inflow.queue
    assert numbers(await consumer.pull(100, 5.0)) == list(range(10, 50))


async def test_a_pull_without_events_ends_in_time_and_leaves_no_claim(bus, pulling, instances):
    consumer = await pulling()
    assert await consumer.pull(10, 0.0) == []
    await publish(bus, 1)
    assert await outstanding(instances) == 0
    assert numbers(await consumer.pull(1, 5.0)) == [1]


async def test_a_pull_goes_on_through_the_end_of_its_session(bus, pulling, instances):
    consumer = await pulling()
    waiting = asyncio.create_task(consumer.pull(10, 20.0))
    while not consumer._turn.locked():
        await asyncio.sleep(0)
    instances.stop()
    instances.start()
    await publish(bus, 1)
    assert numbers(await waiting) == [1]


async def test_a_group_that_was_deleted_is_said_also_without_waiting(bus, pulling, instances):
    consumer = await pulling()
    gone = GroupRecord(GroupSpec("g", ["t"], EARLIEST, created_ns=0), deleted=True)
    assert instances.running["b1"].apply_groups([gone]) == {}
    inflow = consumer._subscription.inflow
    while inflow.failure is None:
        await inflow.changed()
    with pytest.raises(NotFoundError, match="was deleted"):
        await consumer.pull(1, 0.0)


async def test_acks_by_position_are_durable_and_another_member_may_give_them(bus, pulling, instances):
    first, second = await pulling(), await pulling()
    await publish(bus, 1, 2, 3)
    pulled = await first.pull(3, 5.0)
    where = [(each.instance, each.position) for each in pulled]
    assert await first.ack(where[:1]) == [None]
    assert await second.ack(where[1:]) == [None, None]
    assert await outstanding(instances) == 0


async def test_what_is_given_back_comes_again(bus, pulling):
    consumer = await pulling()
    await publish(bus, 1)
    [once] = await consumer.pull(1, 5.0)
    await consumer.nack(once.instance, once.position, delay_ms=0)
    [again] = await consumer.pull(1, 5.0)
    assert (again.position, again.event.delivery) == (once.position, 2)
    await consumer.extend(again.instance, again.position)


async def test_an_instance_that_is_gone_is_said(pulling):
    consumer = await pulling()
    [error] = await consumer.ack([("local.plain/b9", Position("local.plain/b9/0", 1))])
    assert isinstance(error, UnavailableError)
    with pytest.raises(UnavailableError):
        await consumer.extend("local.plain/b9", Position("local.plain/b9/0", 1))


async def test_what_waited_beyond_its_deadline_is_not_handed_out(bus, pulling):
    clock = ManualClock(1)
    consumer = await pulling(clock=clock)
    await publish(bus, *range(5))
    assert len(await consumer.pull(2, 5.0)) == 2
    consumer._grant(consumer._attachments(), 3)  # as if they had been under way when the pull ended
    inflow = consumer._subscription.inflow
    while not inflow.queue:
        await inflow.changed()
    clock.advance(DEADLINE_MS / 1000)
    assert await consumer.pull(2, 0.0) == []
