"""Publishing over HTTP, through a real server: what is answered when, and that 202 means durable."""

import asyncio
import json

import httpx
import pytest

from fedbus.errors import DrainingError, InvalidTopicError, OverloadedError, SchemaMismatchError, UnavailableError
from fedbus.limits import KIB, Limits
from tests.serve.fakes import LEDGER, FakeBus, FakeControl, make_gateway, serving

EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "orders.created", "data": {"amount": 1}}
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCHED = {"content-type": "application/cloudevents-batch+json"}
NDJSON = {"content-type": "application/x-ndjson"}
BINARY = {
    "content-type": "application/json", "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop",
    "ce-type": "orders.created",
}  # fmt: skip
SMALL = Limits(
    event_bytes=KIB, key_bytes=64, attributes_bytes=KIB, batch_bytes=4 * KIB, batch_events=4, http_body_bytes=16 * KIB,
    gateway_bytes=32 * KIB, gateway_requests=2,
)  # fmt: skip


@pytest.fixture
def bus():
    return FakeBus()


@pytest.fixture
async def http(bus):
    async with serving(make_gateway(bus)) as base, httpx.AsyncClient(base_url=base) as client:
        yield client


def batch(count):
    return [EVENT | {"id": str(n)} for n in range(count)]


async def test_every_mode_is_answered_with_ids_and_positions(http, bus):
    for headers, body, count in [
        (BINARY, {"amount": 1}, 1),
        (STRUCTURED, EVENT, 1),
        (BATCHED, batch(3), 3),
        (NDJSON, EVENT, 1),
    ]:
        before = len(bus.log)
        answer = await http.post("/v1/events", headers=headers, content=json.dumps(body))
        assert answer.status_code == 202, answer.text
        assert answer.headers["fedbus-instance"] == "b1"
        found = answer.json()
        assert found["accepted"] == count
        assert found["ids"] == [event.id for _, event in bus.log[before:]]
        assert found["positions"] == [f"{LEDGER}:{before + n}" for n in range(count)]
        assert {topic for topic, _ in bus.log} == {"orders.created"}


async def test_the_path_is_the_topic_and_the_type_stays(http, bus):
    answer = await http.post("/v1/topics/audit.eu-1.all/events", headers=STRUCTURED, json=EVENT)
    assert answer.status_code == 202
    assert [(topic, event.type) for topic, event in bus.log] == [("audit.eu-1.all", "orders.created")]


async def test_an_empty_batch_is_accepted_and_sends_nothing(http, bus):
    answer = await http.post("/v1/events", headers=BATCHED, content="[]")
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "ids": [], "positions": []})
    assert bus.calls == []


async def test_nothing_is_answered_before_the_bus_has_it(http, bus):
    bus.gate.clear()
    request = asyncio.create_task(http.post("/v1/events", headers=STRUCTURED, json=EVENT))
    other = await http.get("/healthz")  # the gateway is not stuck meanwhile
    assert other.status_code == 200
    assert not request.done()
    bus.gate.set()
    assert (await request).status_code == 202


async def test_a_batch_with_one_invalid_event_publishes_nothing_and_names_it(http, bus):
    answer = await http.post("/v1/events", headers=BATCHED, json=[EVENT, EVENT | {"source": ""}, EVENT])
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["retryable"], problem["instance"]) == ("invalid_event", False, "/v1/events")
    assert problem["title"] == "Invalid event"
    assert [(found["index"], found["code"]) for found in problem["errors"]] == [(1, "invalid_event")]
    assert bus.log == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "type_"),
    [
        ("POST", "/v1/topics/a..b/events", STRUCTURED, b"{}", 400, "invalid_topic"),
        ("POST", "/v1/topics//events", STRUCTURED, b"{}", 400, "invalid_topic"),
        ("POST", "/v1/topics/a/b/events", STRUCTURED, b"{}", 400, "invalid_topic"),
        ("POST", "/v1/events", BINARY, b"{", 400, "invalid_event"),
        ("POST", "/v1/events", {"content-type": "text/plain"}, b"hi", 415, "unsupported_media_type"),
        ("POST", "/v1/events?region=nowhere", STRUCTURED, b"{}", 404, "not_found"),
        ("PUT", "/v1/events", STRUCTURED, b"{}", 405, "method_not_allowed"),
        ("GET", "/v1/topics/a/events", {}, b"", 405, "method_not_allowed"),
    ],
)
async def test_what_the_caller_did_wrong_is_a_problem(http, bus, method, path, headers, body, status, type_):
    answer = await http.request(method, path, headers=headers, content=body)
    assert (answer.status_code, answer.json()["type"]) == (status, type_)
    assert answer.json()["detail"]
    assert bus.log == []


async def test_bodies_beyond_the_limit_are_refused_with_and_without_a_length(bus):
    async def chunks():
        for _ in range(5):
            yield b"x" * (8 * KIB)

    async with serving(make_gateway(bus, limits=SMALL)) as base, httpx.AsyncClient(base_url=base) as http:
        for content in (b"x" * (17 * KIB), chunks()):
            answer = await http.post("/v1/events", headers=BATCHED, content=content)
            assert (answer.status_code, answer.json()["type"]) == (413, "too_large")
        answer = await http.post("/v1/events", headers=STRUCTURED, json=EVENT | {"data": "x" * 2 * KIB})
        assert answer.status_code == 413
        answer = await http.post("/v1/events", headers=BATCHED, json=[EVENT, EVENT | {"data": "x" * 2 * KIB}])
        assert (answer.status_code, [e["index"] for e in answer.json()["errors"]]) == (413, [1])
        assert bus.log == []
        assert (await http.post("/v1/events", headers=STRUCTURED, json=EVENT)).status_code == 202


async def test_a_chunked_body_is_put_together(http, bus):
    async def chunks():
        text = json.dumps(batch(50)).encode()
        for at in range(0, len(text), 100):
            yield text[at : at + 100]

    answer = await http.post("/v1/events", headers=BATCHED, content=chunks())
    assert answer.json()["ids"] == [str(n) for n in range(50)]


async def test_partly_stored_batches_get_an_outcome_per_index(http, bus):
    bus.refuse = lambda topic, event: DrainingError("b2 is draining", retry_after_ms=2500) if event.id == "1" else None
    answer = await http.post("/v1/events", headers=BATCHED, json=batch(3))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "3"
    problem = answer.json()
    assert (problem["type"], problem["retryable"]) == ("partly_stored", True)
    assert [(o["index"], o["id"], o["status"]) for o in problem["outcomes"]] == [
        (0, "0", "durable"), (1, "1", "failed"), (2, "2", "durable"),
    ]  # fmt: skip
    assert problem["outcomes"][2]["position"] == f"{LEDGER}:1"
    assert (problem["outcomes"][1]["code"], problem["outcomes"][1]["detail"]) == ("draining", "b2 is draining")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnavailableError("no instance is healthy"), 503),
        (OverloadedError("queue full", retry_after_ms=200), 429),
        (InvalidTopicError("no such topic"), 400),
    ],
)
async def test_when_nothing_is_stored_the_shared_reason_is_the_answer(http, bus, error, status):
    bus.refuse = lambda topic, event: error
    for headers, body in ((STRUCTURED, EVENT), (BATCHED, batch(2))):
        answer = await http.post("/v1/events", headers=headers, json=body)
        assert (answer.status_code, answer.json()["type"]) == (status, error.code)
        assert ("retry-after" in answer.headers) == error.retryable


async def test_a_request_may_ask_that_its_events_count_once_wherever_they_are_retried(http, bus):
    asked = [("/v1/events", {}), ("/v1/events?idempotent=true", {}), ("/v1/events", {"fedbus-idempotent": "true"})]
    for path, headers in (*asked, ("/v1/events?idempotent=false", {})):
        assert (await http.post(path, headers=STRUCTURED | headers, json=EVENT)).status_code == 202
    assert bus.idempotent == [False, True, True, False]


async def test_requests_beyond_the_limit_are_shed_and_the_others_finish(bus):
    async with serving(make_gateway(bus, limits=SMALL)) as base, httpx.AsyncClient(base_url=base) as http:
        bus.gate.clear()
        waiting = {asyncio.create_task(http.post("/v1/events", headers=STRUCTURED, json=EVENT)) for _ in range(5)}
        shed: set[asyncio.Task[httpx.Response]] = set()
        while len(shed) < 3:  # they end as soon as they are refused; two wait for the bus
            done, _ = await asyncio.wait(waiting - shed, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            assert done
            shed |= done
        assert {task.result().status_code for task in shed} == {429}
        assert all(task.result().headers["retry-after"] == "1" for task in shed)
        bus.gate.set()
        assert {(await task).status_code for task in waiting - shed} == {202}
        assert (await http.post("/v1/events", headers=STRUCTURED, json=EVENT)).status_code == 202


async def test_data_that_does_not_fit_its_schema_stops_the_whole_batch(bus):
    def check(topic, content_type, data):
        if b"bad" in data:
            raise SchemaMismatchError(f"{topic}: does not fit")

    async with serving(make_gateway(bus, check_schema=check)) as base, httpx.AsyncClient(base_url=base) as http:
        answer = await http.post("/v1/events", headers=BATCHED, json=[EVENT, EVENT | {"data": "bad"}])
        assert (answer.status_code, answer.json()["errors"][0]["index"]) == (422, 1)
        answer = await http.post("/v1/events", headers=STRUCTURED, json=EVENT | {"data": "bad"})
        assert (answer.status_code, answer.json()["type"]) == (422, "schema_mismatch")
        assert bus.log == []


async def test_a_client_that_goes_away_in_the_middle_of_its_body_leaves_nothing_behind(bus):
    gateway = make_gateway(bus)
    async with serving(gateway) as base, httpx.AsyncClient(base_url=base) as http:
        host, port = base.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        async with asyncio.timeout(10):
            while not await in_flight(http):
                await asyncio.sleep(0.01)
            writer.close()
            while await in_flight(http):
                await asyncio.sleep(0.01)
    assert bus.log == []


async def in_flight(http):
    text = (await http.get("/metrics")).text
    return "fedbus_gateway_requests_in_flight 1.0" in text


async def test_publishing_goes_on_while_every_manager_is_away(bus):
    control = FakeControl()
    control.away = set(control.regions())
    async with serving(make_gateway(bus, control)) as base, httpx.AsyncClient(base_url=base) as http:
        assert (await http.get("/v1/instances")).status_code == 503
        assert (await http.post("/v1/events", headers=STRUCTURED, json=EVENT)).status_code == 202
        assert (await http.get("/readyz")).status_code == 200


async def test_a_bug_of_ours_is_a_problem_that_says_nothing_of_the_inside(bus):
    def broken(topic, content_type, data):
        raise RuntimeError("the password is 1234")

    async with serving(make_gateway(bus, check_schema=broken)) as base, httpx.AsyncClient(base_url=base) as http:
        answer = await http.post("/v1/events", headers=STRUCTURED, json=EVENT)
    assert (answer.status_code, answer.json()["type"]) == (500, "internal")
    assert "1234" not in answer.text


async def test_a_region_that_cannot_be_reached_is_unavailable_and_asked_again_next_time(bus):
    from fedbus_serve.asgi import Gateway

    tries = []

    async def connect(region):
        tries.append(region)
        if len(tries) == 1:
            raise UnavailableError("nobody answers")
        return bus

    gateway = Gateway(FakeControl(), connect=connect, new_id=lambda: "x")
    async with serving(gateway) as base, httpx.AsyncClient(base_url=base) as http:
        path = "/v1/events?region=aws.us-east-1"
        assert (await http.post(path, headers=STRUCTURED, json=EVENT)).status_code == 503
        assert (await http.post(path, headers=STRUCTURED, json=EVENT)).status_code == 202
        assert (await http.post(path, headers=STRUCTURED, json=EVENT)).status_code == 202
    assert tries == ["aws.us-east-1"] * 2
