"""Groups as a client has them: dead letters, bounds, groups that are moved or deleted under it, keys that move."""

import asyncio

import pytest
from msgspec.structs import replace

import fedbus
from fedbus.broker import protocol as p
from fedbus.broker.group_spec import GroupRecord, GroupSpec
from tests.client.test_end_to_end import take
from tests.client.waiting import until

SPEC = GroupSpec("g", ["jobs"], p.EARLIEST, created_ns=1)


async def test_an_event_nobody_can_process_ends_in_the_dead_letter_topic(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        for data in ("good", "poison", "better"):
            await bus.publish("jobs", data, key="k", attributes={"subject": "s"})
        seen = []
        async with bus.subscribe("jobs", group="g", max_deliveries=3, backoff_min_ms=1) as jobs:
            while len(seen) < 5:
                (event,) = await take(jobs, 1)
                seen.append((event.data, event.delivery))
                await (event.nack() if event.data == "poison" else event.ack())
            async with bus.subscribe("_fedbus.dead_letters.g", start="earliest") as letters:
                (letter,) = await take(letters, 1)
        assert sorted(seen) == [("better", 1), ("good", 1), ("poison", 1), ("poison", 2), ("poison", 3)]
        assert (letter.data, letter.key, letter.attributes["subject"]) == ("poison", "k", "s")
        assert letter.attributes["deadletterreason"] == "nack"
        assert letter.attributes["deadletterdeliveries"] == 3


async def test_a_consumer_says_itself_why_it_gives_an_event_up(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        await bus.publish("jobs", 1)
        async with bus.subscribe("jobs", group="g", dead_letter_topic="failed.jobs") as jobs:
            (event,) = await take(jobs, 1)
            await event.nack(dead_letter="unknown customer")
            async with bus.subscribe("failed.jobs", start="earliest") as letters:
                (letter,) = await take(letters, 1)
    assert letter.attributes["deadletterreason"] == "unknown customer"


async def test_a_member_gets_no_more_than_it_may_hold(plain_broker):
    async with fedbus.connect(plain_broker) as bus:
        for n in range(5):
            await bus.publish("jobs", n)
        async with bus.subscribe("jobs", group="g", max_in_flight=1) as jobs:
            for n in range(5):
                (event,) = await take(jobs, 1)
                assert event.data == n
                assert not jobs.inflow.queue
                await event.ack()


@pytest.mark.parametrize(("name", "value"), [("dead_letter_topic", "_fedbus.x"), ("max_deliveries", -1)])
async def test_options_that_cannot_be_are_refused_by_the_client(plain_broker, name, value):
    async with fedbus.connect(plain_broker) as bus:
        with pytest.raises(fedbus.FedbusError, match="group 'g'"):
            bus.subscribe("jobs", group="g", **{name: value})


async def test_a_subscription_goes_on_where_its_group_was_moved_to(instances):
    url = instances.start()
    apply = instances.running["b1"].apply_groups
    async with fedbus.connect(url) as bus:
        await asyncio.to_thread(apply, [GroupRecord(SPEC)])
        for n in range(3):
            await bus.publish("jobs", n)
        async with bus.subscribe("jobs", group="g") as jobs:
            old = await take(jobs, 3)
            await jobs.ack(old[:2], wait=True)
            await asyncio.to_thread(apply, [GroupRecord(replace(SPEC, generation=2))])
            again = await take(jobs, 3)
            assert [(event.data, event.delivery) for event in again] == [(0, 1), (1, 1), (2, 1)]
            with pytest.raises(fedbus.ConflictError, match="moved"):
                await old[2].ack(wait=True)
            await jobs.ack(again, wait=True)


async def test_the_members_of_a_deleted_group_are_told(instances):
    url = instances.start()
    apply = instances.running["b1"].apply_groups
    async with fedbus.connect(url) as bus:
        await asyncio.to_thread(apply, [GroupRecord(SPEC)])
        async with bus.subscribe("jobs", group="g") as jobs:
            await asyncio.to_thread(apply, [GroupRecord(SPEC, deleted=True)])
            with pytest.raises(fedbus.NotFoundError, match="deleted"):
                await anext(jobs)


async def test_keys_move_to_a_new_instance_only_when_the_old_one_is_done_with_them(instances):
    url = instances.start("b1")
    instances.start("b2")
    await asyncio.to_thread(instances.apply_table, 1, b1="healthy", b2="draining")
    keys = [f"k{n}" for n in range(30)]
    async with fedbus.connect(url) as bus, bus.subscribe("jobs", group="g", ack_deadline_ms=60_000) as jobs:
        await until(lambda: len(jobs.inflow.attachments) == 2 and jobs.inflow.stands)
        await asyncio.gather(*(bus.publish("jobs", "before", key=key) for key in keys))
        before = await take(jobs, 30)
        await asyncio.to_thread(instances.apply_table, 2, b1="healthy", b2="healthy")
        receipts = await asyncio.gather(*(bus.publish("jobs", "after", key=key) for key in keys))
        moved = sum(receipt.instance.endswith("b2") for receipt in receipts)
        assert 0 < moved < 30
        stayed = await take(jobs, 30 - moved)
        assert await jobs.take(1, 0.2) == []
        await jobs.ack(before)
        after = await take(jobs, moved)
    assert {event.data for event in stayed + after} == {"after"}


def test_the_blocking_bus_offers_the_same_verbs(plain_broker):
    with fedbus.connect_sync(plain_broker) as bus:
        for n in range(3):
            bus.publish("jobs", n)
        with bus.subscribe("jobs", "g", max_deliveries=2, backoff_min_ms=1) as jobs:
            first, second, third = (next(jobs) for _ in range(3))
            jobs.extend(first)
            jobs.ack_all([first, third], wait=True)
            jobs.nack(second, delay_ms=0)
            again = next(jobs)
            assert (again.data, again.delivery) == (1, 2)
            jobs.nack(again, dead_letter="enough")
            with bus.subscribe("_fedbus.dead_letters.g", start="earliest") as letters:
                assert next(letters).attributes["deadletterreason"] == "enough"
