"""Subscriptions among regions: members of groups follow the home, live ones leave a region that is lost."""

import asyncio

import pytest

import fedbus
from fedbus.client import whereabouts
from fedbus.client.pulling import Pulling
from fedbus.clock import SystemClock
from tests.client.regions import GROUP, Regions
from tests.client.test_end_to_end import take
from tests.client.waiting import until

A, B, C = "a.one", "b.two", "c.three"


@pytest.fixture
def regions(tmp_path):
    made = Regions(tmp_path, [A, B, C])
    yield made
    made.stop_all()


def data(events):
    return [event.data for event in events]


async def calls(call, *args):
    return await asyncio.to_thread(call, *args)


async def publish(regions, region, *values):
    async with fedbus.connect(regions.url(region)) as bus:
        for value in values:
            await bus.publish("jobs", value)


async def pulled(regions, region, count):
    """Wait until so many events have come to this region over its links."""
    await until(lambda: regions.running[region].status().counters["linked_events"] >= count)


async def test_a_member_attaches_to_the_home_of_its_group_wherever_it_is(regions):
    await publish(regions, A, 1, 2)
    await publish(regions, C, 3)
    async with fedbus.connect(regions.url(B)) as bus, bus.subscribe("jobs", group=GROUP) as jobs:
        events = await take(jobs, 3)
        assert sorted(data(events)) == [1, 2, 3]
        assert list(jobs.inflow.attachments) == [f"{A}/b1"]
        await jobs.ack(events, wait=True)


async def test_consumers_go_on_where_they_were_when_the_home_moves_and_back(regions):
    await publish(regions, A, *range(6))
    await pulled(regions, B, 6)
    async with fedbus.connect(regions.url(A)) as bus, bus.subscribe("jobs", group=GROUP) as jobs:
        events = await take(jobs, 6)
        await jobs.ack(events[:2] + events[4:], wait=True)
        await until(lambda: regions.shared(A))
        await calls(regions.move, B)
        again = await take(jobs, 2)
        assert data(again) == [2, 3], "what was not acknowledged, and nothing else"
        assert list(jobs.inflow.attachments) == [f"{B}/b1"]
        await jobs.ack(again, wait=True)
        await publish(regions, B, 6)
        await pulled(regions, A, 1)
        assert data(await take(jobs, 1)) == [6]
        await until(lambda: regions.shared(B))
        await calls(regions.move, A)
        [last] = await take(jobs, 1)
        assert (last.data, last.delivery) == (6, 1)


async def test_what_is_acknowledged_after_the_home_went_counts_at_the_new_one(regions):
    await publish(regions, A, 1, 2)
    await pulled(regions, B, 2)
    async with fedbus.connect(regions.url(C)) as bus, bus.subscribe("jobs", group=GROUP) as jobs:
        first, second = await take(jobs, 2)
        [home] = jobs.inflow.attachments.values()
        await calls(regions.stop, A)
        await until(lambda: not home.standing)
        await first.ack()
        await calls(regions.move, B)
        await until(lambda: regions.status(B).members)
        await until(lambda: regions.status(B).backlog == 1)
        await second.ack()
        await until(lambda: regions.status(B).backlog == 0)  # though what came again is not acknowledged


async def test_a_lost_home_is_replaced_also_for_those_whose_own_region_it_was(regions):
    await publish(regions, A, *range(5))
    await pulled(regions, B, 5)
    async with fedbus.connect([regions.url(A), regions.url(B)]) as bus, bus.subscribe("jobs", group=GROUP) as jobs:
        events = await take(jobs, 5)
        await jobs.ack(events[:3], wait=True)
        await until(lambda: regions.shared(A))
        await calls(regions.stop, A)
        await calls(regions.move, B)
        again = await take(jobs, 2)
        assert sorted(data(again)) == [3, 4]
        await jobs.ack(again, wait=True)
        await calls(regions.start, A)
        await calls(regions.introduce)
        await until(lambda: regions.status(A).backlog == 0)
        assert not regions.status(A).here


async def test_consumers_that_pull_follow_the_home_too(regions):
    await publish(regions, A, 1, 2)
    await pulled(regions, B, 2)
    async with fedbus.connect(regions.url(C)) as bus:
        pulling = Pulling(bus.subscribe("jobs", group=GROUP), 30_000, SystemClock())
        await pulling.open()
        [first] = await pulling.pull(1, 10.0)
        assert await pulling.ack([(first.instance, first.position)]) == [None]
        await until(lambda: regions.shared(A))
        await calls(regions.move, B)
        [second] = await pulling.pull(5, 10.0)
        assert (second.event.data, second.instance) == (2, f"{B}/b1")
        assert await pulling.ack([(second.instance, second.position)]) == [None]
        await pulling.close()


def test_the_blocking_bus_follows_the_home_too(regions):
    with fedbus.connect_sync(regions.url(B)) as bus, bus.subscribe("jobs", GROUP) as jobs:
        bus.publish("jobs", 1)
        event = next(jobs)
        jobs.ack(event, wait=True)
        while not regions.shared(A):
            pass
        regions.move(C)
        bus.publish("jobs", 2)
        assert next(jobs).data == 2


async def test_who_waits_for_an_acknowledgement_follows_the_home(regions):
    await publish(regions, A, 1, 2)
    await pulled(regions, B, 2)
    async with fedbus.connect(regions.url(C)) as bus, bus.subscribe("jobs", group=GROUP) as jobs:
        first, second = await take(jobs, 2)
        [home] = jobs.inflow.attachments.values()
        await calls(regions.stop, A)
        await until(lambda: not home.standing)
        caught = asyncio.create_task(first.ack(wait=True))  # to the former home, which is gone
        await calls(regions.move, B)
        await caught
        assert regions.status(B).backlog == 1
        await second.ack(wait=True)  # what it delivered is durable at the new one
        assert regions.status(B).backlog == 0


async def test_who_waits_for_an_acknowledgement_when_the_subscription_ends_is_told(regions):
    await publish(regions, A, 1)
    async with fedbus.connect(regions.url(C)) as bus:
        jobs = bus.subscribe("jobs", group=GROUP)
        [first] = await take(jobs, 1)
        [home] = jobs.inflow.attachments.values()
        await calls(regions.stop, A)
        await until(lambda: not home.standing)
        caught = asyncio.create_task(first.ack(wait=True))
        await asyncio.sleep(0)
        await jobs.close()
        with pytest.raises(fedbus.UnavailableError, match="before an acknowledgement was confirmed"):
            await caught


async def test_a_live_subscription_leaves_a_lost_region_and_returns_without_a_gap_or_a_repetition(regions, monkeypatch):
    monkeypatch.setattr(whereabouts, "LIVE_PATIENCE_BEATS", whereabouts.PATIENCE_BEATS)
    await publish(regions, B, "before")
    await pulled(regions, A, 1)
    async with fedbus.connect([regions.url(A), regions.url(B)]) as bus, bus.subscribe("jobs") as jobs:
        await publish(regions, A, 1)
        await publish(regions, C, 2)
        assert sorted(data(await take(jobs, 2))) == [1, 2]
        await pulled(regions, B, 2)
        await calls(regions.stop, A)
        await publish(regions, B, 3)
        await publish(regions, C, 4)
        found = data(await take(jobs, 2))
        await until(lambda: regions.running[B].status().live)
        assert sorted(map(str, found)) == ["3", "4"]
        await calls(regions.start, A)
        await calls(regions.introduce)
        await until(lambda: regions.running[A].status().live)
        await publish(regions, A, 5)
        assert data(await take(jobs, 1)) == [5]
