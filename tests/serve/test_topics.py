"""Topics over HTTP: policies of filters, what holds for a topic, the topics there are."""

import httpx
import pytest

from fedbus.broker.policies import WEEK_MS, TopicRule
from fedbus.errors import ConflictError
from tests.serve.fakes import REGIONS, FakeBus, FakeControl, make_gateway, serving

POLICIES = [
    {"topic": "orders.>", "retention_ms": 60_000, "retention_bytes": 10, "dedup_window_ms": 5, "schema_subject": "o"},
    {"topic": "orders.eu", "retention_ms": 1, "validation": "none"},
]


@pytest.fixture
def control(monkeypatch):
    monkeypatch.setattr("tests.serve.fakes.view_of", lambda region: {"topics": POLICIES})
    return FakeControl()


@pytest.fixture
async def http(control):
    async with serving(make_gateway(FakeBus(), control)) as base, httpx.AsyncClient(base_url=base) as client:
        yield client


async def test_the_effective_policy_says_which_filter_it_comes_from(http):
    shown = {name: (await http.get(f"/v1/topics/{name}")).json() for name in ("orders.eu", "orders.us", "bills")}
    assert [shown[name]["policy"] for name in shown] == ["orders.eu", "orders.>", None]
    assert [shown[name]["retention_ms"] for name in shown] == [1, 60_000, WEEK_MS]
    assert (shown["orders.us"]["dedup_window_ms"], shown["orders.us"]["retention_bytes"]) == (5, 10)
    assert shown["bills"]["dedup_window_ms"] is None


async def test_a_filter_without_a_policy_of_its_own_has_that_of_one_that_covers_it(http):
    shown = [(await http.get(f"/v1/topics/{name}")).json()["policy"] for name in ("orders.%3E", "orders.*", "%3E")]
    assert shown == ["orders.>", "orders.>", None]
    assert (await http.get("/v1/topics/a..b")).json()["type"] == "invalid_topic"


async def test_a_policy_is_written_to_every_region(http, control):
    answer = await http.put("/v1/topics/orders.%3E", json={"retention_ms": 5, "dedup_window_ms": 7})
    assert (answer.status_code, answer.json()) == (200, {"regions": list(REGIONS), "failed": {}})
    rule = TopicRule(filter="orders.>", retention_ms=5, dedup_window_ms=7)
    assert control.changes == [(region, "put_topic", "orders.>", rule) for region in REGIONS]


async def test_durability_and_its_regions_are_written_and_shown(http, control):
    body = {"durability": "federation", "regions": list(REGIONS[:2]), "forward": "pinned"}
    assert (await http.put("/v1/topics/orders.%3E", json=body)).status_code == 200
    rule = TopicRule(filter="orders.>", forward="pinned", regions=tuple(REGIONS[:2]), durability="federation")
    assert control.changes[0] == (REGIONS[0], "put_topic", "orders.>", rule)
    shown = (await http.get("/v1/topics/orders.us")).json()
    assert (shown["durability"], shown["regions"], shown["forward"]) == ("region", [], "interest")
    unknown = await http.put("/v1/topics/orders.%3E", json=body | {"regions": ["nowhere.x", REGIONS[0]]})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "not_found")


async def test_a_policy_is_taken_back_in_every_region(http, control):
    assert (await http.delete("/v1/topics/orders.%3E")).status_code == 200
    assert control.changes == [(region, "delete_topic", "orders.>", None) for region in REGIONS]


async def test_a_tie_is_a_conflict_that_names_both(http, control):
    control.refuse = lambda region, change, name: ConflictError(f"policies {name} and *.eu are equally specific")
    answer = await http.put("/v1/topics/orders.*", json={})
    assert answer.status_code == 409
    assert "orders.*" in answer.json()["detail"]
    assert "*.eu" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"durability": "two"}, "durability"),
        ({"forward": "pinned"}, "a pinned topic needs regions"),
        ({"forward": "pinned", "regions": ["a"], "durability": "federation"}, "pinned to one"),
        ({"retention": "7d"}, "retention: Extra inputs are not permitted"),
        ({"retention_ms": 0}, "retention_ms"),
        ({"retention_bytes": -1}, "retention_bytes"),
    ],
)
async def test_what_is_not_offered_is_refused_with_its_name(http, control, body, said):
    answer = await http.put("/v1/topics/a", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert control.changes == []


async def test_policies_and_topics_are_listed_page_by_page(http, control):
    control.topics = [f"t{n:04}" for n in range(2500)]
    found, after = [], ""
    while after is not None:
        page = (await http.get("/v1/topics", params={"limit": 1000, "after": after})).json()
        assert len(page["items"]) <= 1000
        found += [item["topic"] for item in page["items"]]
        after = page["next"]
    assert found == sorted([*control.topics, "orders.>", "orders.eu"])


async def test_only_policies_or_only_topics(http, control):
    control.topics = ["a", "orders.us"]
    for kind, expected in (("policies", ["orders.>", "orders.eu"]), ("topics", ["a", "orders.us"])):
        page = (await http.get("/v1/topics", params={"kind": kind})).json()
        assert [item["topic"] for item in page["items"]] == expected
    assert [item["policy"] for item in page["items"]] == [None, "orders.>"]


async def test_a_region_that_is_away_is_named(http, control):
    control.topics = ["a"]
    control.away = {REGIONS[0]}
    page = (await http.get("/v1/topics")).json()
    assert (page["stale"], page["stale_regions"]) == (True, [REGIONS[0]])
    assert [item["topic"] for item in page["items"]] == ["a", "orders.>", "orders.eu"]


async def test_without_any_manager_nothing_is_known(http, control):
    control.away = set(REGIONS)
    answer = await http.get("/v1/topics/a")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
