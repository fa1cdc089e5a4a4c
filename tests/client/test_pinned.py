"""Topics pinned to regions: a client publishes them there by itself, and everything else where it always did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fedbus
from fedbus.broker.policies import TopicRule
from fedbus.errors import PinnedTopicError, UnavailableError
from fedbus.event import Event
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus_actors.bus_instance import BusInstance, InstanceConfig

HOME, AWAY = "home.a", "away.b"
RULES = [TopicRule(filter="secret.>", forward="pinned", regions=(AWAY,))]


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[dict[str, BusInstance]]:
    both = {name: BusInstance(InstanceConfig(name, "b1", str(tmp_path / name))) for name in (HOME, AWAY)}
    routes = {name: InstanceRoute(f"{name}/b1", f"tcp://127.0.0.1:{bus.port}") for name, bus in both.items()}
    for name, bus in both.items():
        table = RoutingTable("f", name, 1, [region_route(each, [route]) for each, route in routes.items()])
        bus.apply_table(1, table.encode())
        bus.apply_topics(1, RULES, True)
    yield both
    for bus in both.values():
        bus.stop()


async def test_pinned_topics_go_to_their_region_and_others_stay(regions):
    async with fedbus.connect(f"tcp://127.0.0.1:{regions[HOME].port}", region=HOME) as bus:
        bus._rules.policies.apply(1, RULES)
        receipts = [await bus.publish(topic, b"x", key=key) for topic in ("secret.a", "open.a") for key in (None, "k")]
        assert [each.position.ledger.split("/")[0] for each in receipts] == [AWAY, AWAY, HOME, HOME]
        events = [(topic, Event(id=topic, source="s", type="t")) for topic in ("open.b", "secret.b", "open.c")]
        outcomes = await bus.publish_events(events)
        assert [each.position.ledger.split("/")[0] for each in outcomes] == [HOME, AWAY, HOME]
        async with bus.producer() as producer:
            for number in range(50):
                await producer.send("secret.c" if number % 2 else "open.d", str(number))
        assert producer.acknowledged == 50
    stored = {name: bus.status().counters["events_in"] for name, bus in regions.items()}
    assert stored == {AWAY: 2 + 1 + 25, HOME: 2 + 2 + 25}


async def test_who_does_not_know_of_the_pin_is_told_where_to_publish(regions):
    async with fedbus.connect(f"tcp://127.0.0.1:{regions[HOME].port}", region=HOME) as bus:
        with pytest.raises(PinnedTopicError, match=AWAY):
            await bus.publish("secret.a", b"x")


async def test_what_is_pinned_waits_for_its_region_and_goes_nowhere_else(regions):
    regions[AWAY].drain()
    url = f"tcp://127.0.0.1:{regions[HOME].port}"
    async with fedbus.connect(url, region=HOME, publish_timeout_ms=1500) as bus:
        bus._rules.policies.apply(1, RULES)
        with pytest.raises(UnavailableError):
            await bus.publish("secret.a", b"x")
        await bus.publish("open.a", b"x")
    assert regions[HOME].status().counters["events_in"] == 1
