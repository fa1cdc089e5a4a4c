"""Durable groups over HTTP: made, changed, moved, deleted; and consumed by pull, ack, nack and extend."""

import httpx
import pytest

from fedbus.broker.protocol import EARLIEST, LATEST, GroupOptions, Start
from fedbus.errors import ConflictError
from fedbus.event import Event
from fedbus.position import Position
from fedbus_serve.pull import KNOWN_MS, encode_ack_id
from tests.serve.fakes import LEDGER, REGIONS, FakeBus, FakeControl, make_gateway, serving

HOME, OTHER = REGIONS[0], REGIONS[1]
GROUP = {
    "group": "g", "filters": ["a.>"], "region": HOME, "created": "2026-03-02T12:00:00Z", "generation": 1,
    "ack_deadline_ms": 1000, "backlog_events": 3,
    "instances": [{"instance": "b1", "ledgers": [{"ledger": LEDGER, "position": 1, "end": 4}]}],
    "expired": [{"ledger": LEDGER, "events": 2, "time": "2026-03-02T12:00:00Z", "ranges": []}],
}  # fmt: skip


@pytest.fixture
def bus():
    return FakeBus()


@pytest.fixture
def control():
    return FakeControl()


@pytest.fixture
async def http(bus, control):
    async with serving(make_gateway(bus, control)) as base, httpx.AsyncClient(base_url=base) as client:
        yield client


@pytest.fixture
def group(control):
    """A group at home."""
    control.groups[HOME, "g"] = dict(GROUP)
    return control.groups[HOME, "g"]


# -- making and changing -----------------------------------------------------------------------------------------------


async def test_a_group_is_made_in_the_gateways_own_region(http, control):
    options = {
        "ack_deadline_ms": 500, "max_deliveries": 3, "dead_letter_topic": "dead", "backoff_min_ms": 1,
        "backoff_max_ms": 2, "max_in_flight": 7, "paused": True,
    }  # fmt: skip
    body = {"filter": ["b", "a.>", "b"], "start": "latest"} | options
    answer = await http.put("/v1/subscriptions/g", json=body)
    assert answer.status_code == 200, answer.text
    wanted = {"filters": ["a.>", "b"], "start": LATEST, "options": GroupOptions(**options)}
    assert control.changes == [(HOME, "put_group", "g", wanted)]


async def test_one_that_exists_is_changed_where_it_is(http, control):
    control.groups[OTHER, "g"] = GROUP
    await http.put("/v1/subscriptions/g", json={"filter": "a.>"})
    await http.post("/v1/subscriptions/g/seek", json={"start": "earliest"})
    await http.delete("/v1/subscriptions/g")
    assert [change[:3] for change in control.changes] == [
        (OTHER, "put_group", "g"), (OTHER, "seek_group", "g"), (OTHER, "delete_group", "g"),
    ]  # fmt: skip
    assert control.changes[0][3]["start"] is None


async def test_where_several_regions_have_one_the_caller_says_which(http, control):
    for region in (HOME, OTHER):
        control.groups[region, "g"] = GROUP | {"scope": "region", "region": region, "told_by": region}
    answer = await http.delete("/v1/subscriptions/g")
    assert answer.status_code == 409
    assert OTHER in answer.json()["detail"]
    await http.delete("/v1/subscriptions/g", params={"region": OTHER})
    assert control.changes[0][0] == OTHER


async def test_what_counts_of_a_group_is_what_its_home_says(http, control):
    away = GROUP | {"region": OTHER, "told_by": HOME, "term": 2, "backlog_events": 900}
    control.groups[HOME, "g"] = away
    control.groups[OTHER, "g"] = away | {"told_by": OTHER, "backlog_events": 3, "standbys": [HOME]}
    shown = (await http.get("/v1/subscriptions/g")).json()
    assert (shown["region"], shown["backlog_events"], shown["standbys"]) == (OTHER, 3, [HOME])
    assert (await http.get("/v1/subscriptions/g", params={"region": HOME})).json()["backlog_events"] == 900
    del control.groups[OTHER, "g"]
    control.away = {OTHER}
    assert (await http.get("/v1/subscriptions/g")).json()["told_by"] == HOME


async def test_two_groups_that_regions_made_apart_are_both_there_until_one_is_deleted(http, control):
    control.groups[HOME, "g"] = GROUP | {"told_by": HOME, "term": 1, "conflict": "…"}
    control.groups[OTHER, "g"] = GROUP | {"region": OTHER, "told_by": OTHER, "term": 1, "filters": ["b"]}
    assert (await http.delete("/v1/subscriptions/g")).status_code == 409
    assert (await http.delete("/v1/subscriptions/g", params={"region": OTHER})).status_code == 200


async def test_a_group_is_moved_to_another_home(http, control, group):
    answer = await http.put("/v1/subscriptions/g/home", json={"region": OTHER})
    assert answer.status_code == 200, answer.text
    assert control.changes == [(HOME, "move_group", "g", OTHER)]


async def test_a_new_group_can_be_made_elsewhere_or_as_each_regions_own(http, control):
    await http.put("/v1/subscriptions/g", json={"filter": "a", "home": OTHER})
    await http.put("/v1/subscriptions/h", json={"filter": "a", "scope": "region"})
    wanted = [change[3] for change in control.changes]
    assert (wanted[0]["home"], wanted[1]["scope"]) == (OTHER, "region")
    assert (await http.put("/v1/subscriptions/i", json={"filter": "a", "home": "nowhere"})).status_code == 404


async def test_a_refusal_is_passed_on(http, control):
    control.refuse = lambda region, change, name: ConflictError("group 'g' exists with filter b")
    answer = await http.put("/v1/subscriptions/g", json={"filter": "a"})
    assert (answer.status_code, answer.json()["type"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"filter": "a", "push": {"url": "http://x"}}, 501, "push is not offered"),
        ({"filter": "a..b"}, 400, "not a filter"),
        ({"filter": []}, 409, "0 filters"),
        ({}, 400, "filter"),
        ({"filter": "a", "start": "yesterday"}, 400, "no start"),
        ({"filter": "a", "ack_deadline": 5}, 400, "ack_deadline"),
        ({"filter": "a", "ack_deadline_ms": 1}, 400, "ack_deadline_ms"),
    ],
)
async def test_what_cannot_be_is_said(http, control, body, status, said):
    answer = await http.put("/v1/subscriptions/g", json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert control.changes == []


@pytest.mark.parametrize(
    ("body", "start"),
    [
        ({"start": "earliest"}, EARLIEST),
        ({"start": "latest"}, LATEST),
        ({"time": "1970-01-01T00:00:01Z"}, Start("time", time_ms=1000)),
        ({"position": f"{LEDGER}:7"}, Start("cursor", cursor={LEDGER: 7})),
        ({}, None),
        ({"start": "latest", "time": "1970-01-01T00:00:01Z"}, None),
    ],
)
async def test_a_group_is_moved_to_a_start_a_time_or_a_position(http, control, group, body, start):
    answer = await http.post("/v1/subscriptions/g/seek", json=body)
    assert answer.status_code == (200 if start else 400)
    assert [change[3] for change in control.changes] == ([start] if start else [])


async def test_a_group_is_shown_instance_by_instance(http, group):
    shown = (await http.get("/v1/subscriptions/g")).json()
    assert (shown["region"], shown["backlog_events"], shown["ack_deadline_ms"]) == (HOME, 3, 1000)
    assert shown["instances"][0]["ledgers"][0]["end"] == 4
    assert shown["expired"][0]["events"] == 2
    assert (await http.get("/v1/subscriptions/h")).status_code == 404


async def test_whether_there_is_a_group_is_not_known_while_a_manager_is_away(http, control):
    control.away = {OTHER}
    answer = await http.get("/v1/subscriptions/g")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


# -- consuming ---------------------------------------------------------------------------------------------------------


def event(number):
    data = b'{"n": %d}' % number
    return Event(id=str(number), source="/s", type="t", datacontenttype="application/json", payload=data)


@pytest.fixture
def published(bus):
    """Five events, one of them not for the group."""
    for number in range(5):
        bus.log.append(("a.x" if number != 2 else "b", event(number)))


async def pull(http, **body):
    answer = await http.post("/v1/subscriptions/g/pull", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_is_pulled_says_what_it_is_and_how_to_settle_it(http, group, published):
    first, second = await pull(http, max=2, wait_ms=100)
    assert (first["topic"], first["delivery"], first["position"]) == ("a.x", 1, f"{LEDGER}:0")
    assert first["event"]["data"] == {"n": 0}
    assert first["event"]["specversion"] == "1.0"
    assert first["ack_id"] != second["ack_id"]
    assert [each["event"]["id"] for each in await pull(http)] == ["3", "4"]


async def test_acks_settle_by_id(http, bus, group, published):
    ids = [each["ack_id"] for each in await pull(http)]
    answer = await http.post("/v1/subscriptions/g/ack", json={"ack_ids": ids[:2]})
    assert answer.json() == {"settled": 2, "failed": []}
    await http.post("/v1/subscriptions/g/nack", json={"ack_ids": ids[2:3], "delay_ms": 5, "dead_letter": "bad"})
    await http.post("/v1/subscriptions/g/extend", json={"ack_ids": ids[3:]})
    assert bus.consumers[0].settled == [
        ("ack", Position(LEDGER, 0)), ("ack", Position(LEDGER, 1)),
        ("nack", Position(LEDGER, 3), 5, "bad"), ("extend", Position(LEDGER, 4)),
    ]  # fmt: skip


async def test_another_gateway_settles_what_this_one_delivered(bus, control, group, published):
    ids = []
    for _ in range(2):
        async with serving(make_gateway(bus, control)) as base, httpx.AsyncClient(base_url=base) as client:
            if not ids:
                ids = [each["ack_id"] for each in await pull(client)]
            else:
                answer = await client.post("/v1/subscriptions/g/ack", json={"ack_ids": ids})
                assert answer.json() == {"settled": 4, "failed": []}
    assert len(bus.consumers[1].settled) == 4
    assert [each.members for each in bus.consumers] == [0, 0]  # both have left


async def test_ids_that_come_to_nothing_are_reported_one_by_one(http, bus, group, published):
    good, *_ = [each["ack_id"] for each in await pull(http)]
    bus.consumers[0].away = {"b9"}
    elsewhere = encode_ack_id("g", "b9", Position(LEDGER, 1))
    foreign = encode_ack_id("h", "b1", Position(LEDGER, 1))
    answer = (await http.post(
        "/v1/subscriptions/g/ack", json={"ack_ids": [good, "x!", elsewhere, foreign]}
    )).json()  # fmt: skip
    assert answer["settled"] == 1
    assert [(each["ack_id"], each["code"], each["retryable"]) for each in answer["failed"]] == [
        ("x!", "invalid_position", False), (foreign, "invalid_position", False), (elsewhere, "unavailable", True),
    ]  # fmt: skip
    answer = await http.post("/v1/subscriptions/g/nack", json={"ack_ids": [elsewhere]})
    assert answer.json()["settled"] == 0


async def test_pulling_from_a_group_that_does_not_exist_is_not_found(http, bus):
    answer = await http.post("/v1/subscriptions/g/pull", json={})
    assert (answer.status_code, answer.json()["type"]) == (404, "not_found")
    assert bus.consumers == []


@pytest.mark.parametrize("body", [{"max": 0}, {"max": 10**6}, {"wait_ms": -1}, {"wait_ms": 10**6}, {"most": 1}])
async def test_a_pull_that_asks_for_too_much_is_refused(http, group, body):
    assert (await http.post("/v1/subscriptions/g/pull", json=body)).status_code == 400


async def test_a_group_that_was_moved_or_deleted_is_joined_anew(bus, control, group, published):
    from fedbus.clock import ManualClock

    clock = ManualClock(1)
    async with serving(make_gateway(bus, control, clock=clock)) as base, httpx.AsyncClient(base_url=base) as http:
        await pull(http)
        clock.advance(KNOWN_MS / 500)
        await pull(http)
        assert len(bus.consumers) == 1
        group["generation"] = 2
        clock.advance(KNOWN_MS / 500)
        assert len(await pull(http)) == 4
        assert [each.members for each in bus.consumers] == [0, 1]
        del control.groups[HOME, "g"]
        clock.advance(KNOWN_MS / 500)
        assert (await http.post("/v1/subscriptions/g/pull", json={})).status_code == 404
        assert [each.members for each in bus.consumers] == [0, 0]


async def test_a_page_of_another_site_may_not_consume(http, group):
    answer = await http.post("/v1/subscriptions/g/pull", json={}, headers={"origin": "http://elsewhere"})
    assert answer.status_code == 403
