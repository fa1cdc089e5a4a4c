"""The gateway as one application: pages, probes, metrics, the registry's mount, and any route prefix."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from fedbus.errors import UnavailableError
from fedbus_serve.asgi import Gateway
from fedbus_serve.gateway import event_ids, slow_proxy_warning
from tests.serve.fakes import FakeBus, FakeControl, make_gateway, serving

STRUCTURED = {"content-type": "application/cloudevents+json"}
EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "orders.created", "data": 1}


@pytest.mark.parametrize("root_path", ["", "/bus/eu"])
async def test_everything_is_found_under_any_route_prefix(root_path):
    async def where(request):
        return PlainTextResponse(request.url.path + " " + request.scope["root_path"])

    registry = Starlette(routes=[Route("/subjects", where)])
    gateway = make_gateway(FakeBus(), registry=registry)
    async with serving(gateway, root_path) as base, httpx.AsyncClient() as http:
        for path in ("/", "/docs", "/openapi.json", "/metrics", "/healthz", "/readyz", "/v1/regions", "/v1/bootstrap"):
            assert (await http.get(base + path)).status_code == 200, path
        assert (await http.get(base + "/dashboard/vendor/uPlot.iife.min.js")).status_code == 200
        assert (await http.post(base + "/v1/events", headers=STRUCTURED, json=EVENT)).status_code == 202
        found = await http.get(base + "/registry/subjects")
        assert found.text == f"{root_path}/registry/subjects {root_path}/registry"


async def test_pages_come_whole_or_as_unchanged_and_load_nothing_from_elsewhere():
    async with serving(make_gateway(FakeBus())) as base, httpx.AsyncClient(base_url=base) as http:
        page = await http.get("/")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "://" not in page.text
        again = await http.get("/", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        head = await http.head("/")
        assert (head.status_code, head.content, head.headers["content-length"]) == (
            200, b"", page.headers["content-length"],
        )  # fmt: skip
        for path in ("/dashboard/", "/dashboard/../gateway.py", "/dashboard/%2e%2e/gateway.py", "/dashboard/vendor"):
            assert (await http.get(path)).status_code == 404


async def test_ready_means_that_an_event_would_be_taken():
    bus = FakeBus()
    gateway = make_gateway(bus)
    async with serving(gateway) as base, httpx.AsyncClient(base_url=base) as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["instances"]) == (200, ["b1"])
        gateway.warn("Serve runs with its slow proxy")
        assert "slow proxy" in (await http.get("/readyz")).json()["detail"]
        bus.instances = []
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        assert (await http.get("/healthz")).status_code == 200


async def test_not_ready_says_why():
    async def connect(region):
        raise UnavailableError("nobody listens on port 24000")

    gateway = Gateway(FakeControl(), connect=connect, new_id=event_ids())
    async with serving(gateway) as base, httpx.AsyncClient(base_url=base) as http:
        answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "nobody listens on port 24000")


async def test_metrics_count_requests_by_status_and_events_by_outcome():
    bus = FakeBus()
    async with serving(make_gateway(bus)) as base, httpx.AsyncClient(base_url=base) as http:
        for n in range(3):
            await http.post("/v1/events", headers=STRUCTURED, json=EVENT | {"id": str(n)})
        await http.post("/v1/events", headers=STRUCTURED, content="{")
        bus.refuse = lambda topic, event: UnavailableError("gone")
        await http.post("/v1/events", headers=STRUCTURED, json=EVENT)
        text = (await http.get("/metrics")).text
    for line in (
        'fedbus_gateway_requests_total{route="publish",status="202"} 3.0',
        'fedbus_gateway_requests_total{route="publish",status="400"} 1.0',
        'fedbus_gateway_requests_total{route="publish",status="503"} 1.0',
        'fedbus_gateway_events_total{outcome="durable"} 3.0',
        'fedbus_gateway_events_total{outcome="failed"} 1.0',
        "fedbus_gateway_publish_seconds_count 4.0",
        "fedbus_gateway_requests_in_flight 0.0",
        'fedbus_ledgers_under_replicated{region="onprem.berlin"} 1.0',
        'fedbus_geo_waiting_events{region="onprem.berlin"} 3.0',
        'fedbus_geo_waiting_seconds{region="onprem.berlin"} 1.5',
        'fedbus_link_lag_seconds{region="onprem.berlin",source="aws.us-east-1"} 0.04',
        'fedbus_link_behind_events{region="onprem.berlin",source="aws.us-east-1"} 7.0',
        'fedbus_link_topic_lag_seconds{region="onprem.berlin",source="aws.us-east-1",topic="orders.created"} 0.025',
        'fedbus_recovery_point_seconds{region="onprem.berlin"} 0.06',
    ):
        assert line in text


async def test_metrics_tell_what_a_failover_of_groups_would_deliver_again():
    class Grouped(FakeControl):
        async def read(self, resource, region):
            if resource != "subscriptions":
                return await super().read(resource, region)
            lags = [("a", 3, 40), ("b", 4, 1500), ("c", None, 90)]
            return [
                {
                    "group": name, "region": "onprem.berlin",
                    "unshared": [{"region": "aws.us-east-1", "events": events, "lag_ms": lag_ms}],
                }
                for name, events, lag_ms in lags
            ]  # fmt: skip

    gateway = make_gateway(FakeBus(), Grouped())
    async with serving(gateway) as base, httpx.AsyncClient(base_url=base) as http:
        text = (await http.get("/metrics")).text
    labels = '{region="onprem.berlin",standby="aws.us-east-1"}'
    for line in (
        f"fedbus_groups_unshared_events{labels} 7.0",
        f"fedbus_groups_unshared_seconds{labels} 1.5",
        f"fedbus_groups_unfollowed{labels} 1.0",
        'fedbus_peering_dropped{reason="garbage",region="onprem.berlin"} 2.0',
    ):
        assert line in text
    assert text.count("fedbus_groups_unshared_events{") == 1, "told by the home alone"


async def test_buses_are_closed_with_the_gateway():
    bus = FakeBus()
    async with serving(make_gateway(bus)) as base, httpx.AsyncClient(base_url=base) as http:
        await http.post("/v1/events", headers=STRUCTURED, json=EVENT)
        assert bus.instances
    assert not bus.instances


def test_the_slow_proxy_is_recognised_by_the_environment_of_the_cluster(monkeypatch):
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    monkeypatch.setenv("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")
    assert "RAY_SERVE_ENABLE_HA_PROXY=1 in" in slow_proxy_warning()
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    assert slow_proxy_warning() == ""


def test_ids_of_plain_data_differ_within_and_between_processes():
    one, other = event_ids(), event_ids()
    ids = [make() for make in (one, other) for _ in range(100)]
    assert len(set(ids)) == 200
