"""The gateway over the real client library and a real bus instance: from HTTP to disk and back."""

import asyncio
import json

import httpx
import pytest

from fedbus.client.bootstrap import Bootstrap
from fedbus.position import decode_cursor
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from fedbus_serve.asgi import Gateway
from tests.serve.fakes import FakeControl, serving
from tests.serve.test_sse import stream

BATCHED = {"content-type": "application/cloudevents-batch+json"}
REGION = "onprem.berlin"


class Instances(FakeControl):
    """A control plane that knows the given instances."""

    def __init__(self, *instances: BusInstance) -> None:
        super().__init__()
        self.instances = instances

    async def bootstrap(self, network):
        return Bootstrap(table_of(self.instances), REGION)


def table_of(instances):
    routes = [InstanceRoute(i.config.instance, f"tcp://127.0.0.1:{i.port}") for i in instances]
    return RoutingTable("test", REGION, 1, [region_route(REGION, routes)])


@pytest.fixture
def instances(tmp_path):
    started = [BusInstance(InstanceConfig(REGION, name, str(tmp_path / name))) for name in ("b1", "b2")]
    table = table_of(started)
    for instance in started:
        instance.apply_table(table.version, table.encode())
    yield started
    for instance in started:
        instance.stop()


@pytest.fixture
async def http(instances):
    gateway = Gateway(Instances(*instances), new_id=lambda: "x")
    async with serving(gateway) as base, httpx.AsyncClient(base_url=base, timeout=20) as client:
        yield client


def events(*ids, **fields):
    return [{"specversion": "1.0", "id": id_, "source": "/s", "type": "orders.new", "data": 1} | fields for id_ in ids]


async def publish(http, *ids, **fields):
    answer = await http.post("/v1/events", headers=BATCHED, content=json.dumps(events(*ids, **fields)))
    assert answer.status_code == 202, answer.text
    return answer.json()


async def test_an_accepted_batch_is_on_disk_where_the_answer_says(http):
    answer = await publish(http, *map(str, range(50)))
    assert answer["accepted"] == 50
    assert len(set(answer["positions"])) == 50
    assert all(position.startswith(f"{REGION}/b") for position in answer["positions"])


async def test_what_was_published_is_streamed_with_the_same_positions(http):
    answer = await publish(http, "1", "2", "3")
    async with stream(http, "filter=orders.>&from=earliest") as messages:
        received = [json.loads((await messages.next())["data"]) for _ in range(3)]
    assert {event["id"]: event["fedbusposition"] for event in received} == dict(
        zip(answer["ids"], answer["positions"], strict=True)
    )


async def test_resuming_again_and_again_brings_every_event_once(http):
    """Also those of ledgers that were quiet since the cursor before."""
    await publish(http, *(f"a{n}" for n in range(20)))
    keys = [f"k{n}" for n in range(20)]
    for key in keys:  # both instances
        await publish(http, f"b-{key}", partitionkey=key)
    expected = {f"a{n}" for n in range(20)} | {f"b-{key}" for key in keys}
    got, last_id = [], ""
    async with stream(http, "filter=orders.>&from=earliest") as messages:
        got += await messages.ids(40)
        last_id = messages.last_id
    for n in range(3):  # each on one instance only
        await publish(http, f"c{n}", partitionkey="k0")
        async with stream(http, last_id=last_id) as messages:
            got += await messages.ids(1)
            last_id = messages.last_id
    assert sorted(got) == sorted(expected | {"c0", "c1", "c2"})
    assert len(decode_cursor(last_id)) == 2


async def test_events_of_one_key_stay_in_order(http):
    await asyncio.gather(*(publish(http, f"x{n}") for n in range(5)))
    for n in range(10):
        await publish(http, str(n), partitionkey="k")
    async with stream(http, "filter=orders.>&from=earliest") as messages:
        seen = [json.loads((await messages.next())["data"]) for _ in range(15)]
    assert [event["id"] for event in seen if event.get("partitionkey") == "k"] == [str(n) for n in range(10)]


async def test_a_batch_larger_than_one_of_the_bus_is_stored_whole(http):
    answer = await publish(http, *map(str, range(12)), data="x" * 600_000)
    assert answer["accepted"] == 12


async def test_readiness_names_the_instances_in_reach(http, instances):
    async with asyncio.timeout(10):
        while (found := (await http.get("/readyz")).json()["instances"]) != ["b1", "b2"]:
            assert set(found) <= {"b1", "b2"}
    instances[1].drain()


async def test_one_instance_gone_and_publishing_goes_on(http, instances):
    await publish(http, "1")
    instances[1].stop()
    for n in range(10):
        await publish(http, f"after-{n}", partitionkey=f"k{n}")
