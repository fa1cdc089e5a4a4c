"""The control API: what managers say, at most once a second, and the last they said when they are away."""

from base64 import b64decode
from typing import get_args

import httpx
import pytest

from fedbus.clock import ManualClock
from fedbus.errors import UnavailableError
from fedbus.limits import DEFAULT
from fedbus.routing.table import RoutingTable
from fedbus_serve.control_cache import ControlCache, Resource
from tests.serve.fakes import REGIONS, FakeBus, FakeControl, make_gateway, serving


@pytest.fixture
def control():
    return FakeControl()


@pytest.fixture
def clock():
    return ManualClock(wall_ns=1_772_452_800_000_000_000)


@pytest.fixture
async def http(control, clock):
    gateway = make_gateway(FakeBus(), control, clock=clock)
    async with serving(gateway) as base, httpx.AsyncClient(base_url=base) as client:
        yield client


async def test_a_resource_joins_the_parts_of_all_regions(http):
    page = (await http.get("/v1/instances")).json()
    assert [item["region"] for item in page["items"]] == [region for region in REGIONS for _ in range(2)]
    assert (page["stale"], page["stale_regions"], page["as_of"]) == (False, [], "2026-03-02T12:00:00Z")
    first = page["items"][0]
    assert (first["state"], first["capacity_eps"], first["since"]) == ("healthy", 2000.0, "2026-03-02T10:30:00Z")


@pytest.mark.parametrize("resource", get_args(Resource))
async def test_every_resource_answers_and_stands_in_the_openapi_document(http, resource):
    answer = await http.get(f"/v1/{resource}")
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"items", "next", "stale", "stale_regions", "as_of"}
    assert f"/v1/{resource}" in (await http.get("/openapi.json")).json()["paths"]


async def test_the_openapi_document_knows_publishing_and_streams_too(http):
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert set(paths["/v1/events"]) == {"post", "get"}
    assert "application/cloudevents-batch+json" in paths["/v1/topics/{topic}/events"]["post"]["requestBody"]["content"]


async def test_one_region_can_be_asked_for(http):
    page = (await http.get("/v1/regions?region=aws.us-east-1")).json()
    assert [item["region"] for item in page["items"]] == ["aws.us-east-1"]
    answer = await http.get("/v1/regions?region=nowhere")
    assert (answer.status_code, answer.json()["type"]) == (404, "not_found")


async def test_long_lists_come_in_pages(http):
    seen, after = [], ""
    while after is not None:
        page = (await http.get("/v1/topics?limit=2" + (f"&after={after}" if after else ""))).json()
        assert len(page["items"]) <= 2
        seen += [item["topic"] for item in page["items"]]
        after = page["next"]
    assert seen == [f"orders.t{n}" for n in range(5)]


@pytest.mark.parametrize("query", ["limit=0", "limit=many", "limit=10001"])
async def test_a_query_that_cannot_be_read_is_a_problem(http, query):
    answer = await http.get(f"/v1/topics?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "limit" in answer.json()["detail"]


async def test_managers_are_asked_at_most_once_a_second(http, control, clock):
    for _ in range(5):
        await http.get("/v1/regions")
    assert control.reads == len(REGIONS)
    clock.advance(1.0)
    await http.get("/v1/regions")
    assert control.reads == 2 * len(REGIONS)


async def test_a_manager_that_is_away_leaves_its_last_answer_marked_stale(http, control, clock):
    await http.get("/v1/regions")
    control.away = {"aws.us-east-1"}
    clock.advance(5.0)
    page = (await http.get("/v1/regions")).json()
    assert len(page["items"]) == 3
    assert (page["stale"], page["stale_regions"], page["as_of"]) == (True, ["aws.us-east-1"], "2026-03-02T12:00:00Z")
    control.away = set()
    clock.advance(1.0)
    assert (await http.get("/v1/regions")).json()["stale"] is False


async def test_a_region_never_heard_of_is_missing_and_said_to_be(http, control):
    control.away = {"aws.us-east-1"}
    page = (await http.get("/v1/regions")).json()
    assert [item["region"] for item in page["items"]] == ["onprem.berlin", "gcp.asia-east1"]
    assert page["stale_regions"] == ["aws.us-east-1"]


async def test_federation_wide_resources_come_from_any_manager(http, control):
    control.away = {"onprem.berlin"}
    page = (await http.get("/v1/slas")).json()
    assert (len(page["items"]), page["stale"]) == (1, False)


async def test_with_no_manager_at_all_the_answer_is_retryable(http, control):
    control.away = set(REGIONS)
    for path in ("/v1/regions", "/v1/slas", "/v1/bootstrap"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["retryable"]) == (503, True)
        assert "retry-after" in answer.headers


async def test_bootstrap_answers_for_the_callers_network(http, control, clock):
    far = {"x-forwarded-for": "8.8.8.8, 10.0.0.1"}
    for headers, endpoint in (({}, "tcp://10.0.0.1:24000"), (far, "tcp://198.51.100.1:24000")):
        found = (await http.get("/v1/bootstrap", headers=headers)).json()
        assert (found["federation"], found["region"], found["version"]) == ("demo", "onprem.berlin", 7)
        table = RoutingTable.decode(b64decode(found["table"]))
        assert table.regions[0].instances[0].endpoint == endpoint
        assert found["limits"]["http_body_bytes"] == DEFAULT.http_body_bytes
    control.away = set(REGIONS)
    clock.advance(2.0)
    answer = await http.get("/v1/bootstrap")
    assert (answer.status_code, answer.headers["fedbus-stale"]) == (200, "true")


async def test_what_is_not_there_and_what_is_not_allowed_are_problems(http):
    for method, path, status in (("GET", "/v1/nothing", 404), ("DELETE", "/v1/regions", 405), ("GET", "/a/b", 404)):
        answer = await http.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_an_answer_of_the_wrong_shape_is_our_bug_and_told_as_such(http, control, monkeypatch):
    monkeypatch.setattr("tests.serve.fakes.view_of", lambda region: {"regions": [{"password": "1234"}]})
    answer = await http.get("/v1/regions")
    assert (answer.status_code, answer.json()["type"]) == (500, "internal")
    assert "1234" not in answer.text


async def test_whatever_a_source_raises_is_an_absent_manager(clock):
    class Broken(FakeControl):
        async def read(self, resource, region):
            raise RuntimeError("actor died")

    cache = ControlCache(Broken(), clock)
    with pytest.raises(UnavailableError, match="RuntimeError"):
        await cache.read("regions", "onprem.berlin")


async def test_routing_is_what_the_managers_say_and_what_the_gateway_makes_of_it(http):
    assert {item["told_by"] for item in (await http.get("/v1/routing")).json()["items"]} <= {"manager"}
    event = {"specversion": "1.0", "id": "1", "source": "/t", "type": "orders.a", "data": {"a": 1}}
    headers = {"content-type": "application/cloudevents+json"}
    assert (await http.post("/v1/topics/orders.a/events", headers=headers, json=event)).status_code == 202
    page = (await http.get("/v1/routing")).json()
    (own,) = [item for item in page["items"] if item["told_by"] == "gateway"]
    assert own["reasons"] == ["b1, the only one"]
    assert own["predicted_ms"] == {"onprem.berlin": 1.0}
    assert (own["routes"][0]["score_ms"], own["routes"][0]["share"]) == (1.0, 1.0)
    other = (await http.get("/v1/routing?region=gcp.asia-east1")).json()
    assert [item for item in other["items"] if item["told_by"] == "gateway"] == []


async def test_where_a_key_goes_can_be_asked(http):
    found = (await http.get("/v1/routing/keys/customer-7")).json()
    assert found == {"region": "onprem.berlin", "key": "customer-7", "instance": "b1", "why": "it owns the slot"}
    assert (await http.get("/v1/routing/keys/a?region=mars")).status_code == 404
