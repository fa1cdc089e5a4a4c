"""Writing to the control plane over HTTP."""

import httpx
import pytest

from fedbus.control.sla import Sla
from fedbus.control.trigger import Trigger, Window
from fedbus.errors import ConflictError, NotFoundError, UnavailableError
from tests.serve.fakes import REGIONS, FakeBus, FakeControl, make_gateway, serving

TRIGGER = {"starts": "2030-01-01T00:00:00Z", "ends": "2030-01-01T01:00:00Z", "effect": 3.0, "extra_eps": 5.0}


@pytest.fixture
def control():
    return FakeControl()


@pytest.fixture
async def http(control):
    async with serving(make_gateway(FakeBus(), control)) as base, httpx.AsyncClient(base_url=base) as client:
        yield client


async def test_an_sla_is_written_to_every_region(http, control):
    answer = await http.put("/v1/slas/orders.%3E", json={"max_latency_ms": 100, "availability": 0.9999})
    assert (answer.status_code, answer.json()) == (200, {"regions": list(REGIONS), "failed": {}})
    sla = Sla("orders.>", 100, 0.9999)
    assert control.changes == [(region, "put_sla", "orders.>", sla) for region in REGIONS]


async def test_a_trigger_is_written_to_every_region(http, control):
    assert (await http.put("/v1/triggers/promo", json=TRIGGER | {"region": REGIONS[0]})).status_code == 200
    start_ns = 1_893_456_000 * 10**9
    expected = Trigger(
        id="promo", start_ns=start_ns, end_ns=start_ns + 3600 * 10**9, region=REGIONS[0], expected_factor=3.0,
        expected_extra_eps=5.0,
    )  # fmt: skip
    assert control.changes == [(region, "put_trigger", "promo", expected) for region in REGIONS]


async def test_a_recurring_trigger_and_one_with_several_windows_are_written_whole(http, control):
    recurring = {"cron": "0 9 * * 1", "duration_ms": 1_800_000, "timezone": "Europe/Berlin"}
    assert (await http.put("/v1/triggers/report", json=recurring)).status_code == 200
    expected = Trigger(id="report", cron="0 9 * * 1", duration_ns=1_800 * 10**9, zone="Europe/Berlin")
    assert control.changes[0] == (REGIONS[0], "put_trigger", "report", expected)
    windows = [{"starts": "2029-01-01T00:00:00Z", "ends": "2029-01-01T01:00:00Z"}]
    assert (await http.put("/v1/triggers/promo", json=TRIGGER | {"windows": windows})).status_code == 200
    start_ns = 1_861_920_000 * 10**9
    assert control.changes[-1][3].also == (Window(start_ns, start_ns + 3600 * 10**9),)


async def test_an_announcement_is_told_once_and_what_was_detected_by_region(http):
    items = (await http.get("/v1/triggers")).json()["items"]
    assert [(each["id"], each["region"]) for each in items] == [
        *(("detected-daily", region) for region in REGIONS), ("report", None),
    ]  # fmt: skip
    assert [each["region"] for each in items[-1]["learned"]] == list(REGIONS)
    (one,) = (
        each
        for each in (await http.get("/v1/triggers", params={"region": REGIONS[1]})).json()["items"]
        if each["detected"]
    )
    assert one["region"] == REGIONS[1]


async def test_regions_that_do_not_answer_are_named(http, control):
    control.away = {REGIONS[1]}
    answer = await http.put("/v1/slas/a", json={})
    assert answer.status_code == 200
    assert answer.json()["regions"] == [REGIONS[0], REGIONS[2]]
    assert "away" in answer.json()["failed"][REGIONS[1]]


async def test_with_no_manager_at_all_nothing_was_done_and_that_is_retryable(http, control):
    control.away = set(REGIONS)
    answer = await http.put("/v1/slas/a", json={})
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


async def test_what_a_region_does_not_have_need_not_be_deleted_there(http, control):
    control.refuse = lambda region, change, name: NotFoundError("no") if region != REGIONS[0] else None
    answer = await http.delete("/v1/triggers/promo")
    assert (answer.status_code, answer.json()) == (200, {"regions": list(REGIONS), "failed": {}})
    control.refuse = lambda region, change, name: NotFoundError("no")
    assert (await http.delete("/v1/triggers/promo")).status_code == 404
    assert (await http.delete("/v1/slas/a")).status_code == 404


async def test_a_refusal_is_told_as_it_is(http, control):
    control.refuse = lambda region, change, name: ConflictError("not so")
    for method, path, body in (
        ("PUT", "/v1/slas/a", {}),
        ("PUT", f"/v1/regions/{REGIONS[0]}/scale", {"instances": 99}),
        ("POST", f"/v1/instances/{REGIONS[0]}/b1/drain", None),
    ):
        answer = await http.request(method, path, json=body)
        assert (answer.status_code, answer.json()["type"], answer.json()["detail"]) == (409, "conflict", "not so")


async def test_a_region_is_scaled_and_left_to_itself_again(http, control):
    path = f"/v1/regions/{REGIONS[1]}/scale"
    assert (await http.put(path, json={"instances": 3, "size": "large", "expires_in_s": 60})).status_code == 200
    assert (await http.delete(path)).status_code == 200
    wanted = {"instances": 3, "size": "large", "expires_in_s": 60.0}
    assert control.changes == [(REGIONS[1], "scale", "", wanted), (REGIONS[1], "unscale", "", None)]


@pytest.mark.parametrize("order", ["drain", "restart"])
async def test_orders_to_an_instance_are_accepted(http, control, order):
    answer = await http.post(f"/v1/instances/{REGIONS[0]}/b1/{order}")
    assert (answer.status_code, answer.json()["instance"]) == (202, f"{REGIONS[0]}/b1")
    assert control.changes == [(REGIONS[0], order, "b1", None)]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/v1/slas/a..b", {}, 400),
        ("PUT", "/v1/slas/a", {"availability": 1}, 400),
        ("PUT", "/v1/slas/a", {"latency": 5}, 400),
        ("PUT", "/v1/slas/a", [], 400),
        ("PUT", "/v1/triggers/x", TRIGGER | {"ends": TRIGGER["starts"]}, 400),
        ("PUT", "/v1/triggers/x", TRIGGER | {"starts": "2030-01-01T00:00:00"}, 400),
        ("PUT", "/v1/triggers/x", TRIGGER | {"region": "nowhere"}, 404),
        ("PUT", "/v1/triggers/%20", TRIGGER, 400),
        ("PUT", "/v1/triggers/x", {}, 400),
        ("PUT", "/v1/triggers/x", {"starts": TRIGGER["starts"]}, 400),
        ("PUT", "/v1/triggers/x", {"cron": "0 9 * * 1"}, 400),
        ("PUT", "/v1/triggers/x", {"cron": "0 25 * * 1", "duration_ms": 60_000}, 400),
        ("PUT", "/v1/triggers/x", {"cron": "0 * * * *", "duration_ms": 7_200_000}, 400),
        ("PUT", "/v1/triggers/x", TRIGGER | {"windows": [{"starts": TRIGGER["ends"], "ends": TRIGGER["ends"]}]}, 400),
        ("PUT", "/v1/triggers/detected-x", TRIGGER, 400),
        ("DELETE", "/v1/triggers/detected-x", None, 400),
        ("PUT", "/v1/regions/nowhere/scale", {"instances": 1}, 404),
        ("PUT", f"/v1/regions/{REGIONS[0]}/scale", {"instances": 0}, 400),
        ("PUT", f"/v1/regions/{REGIONS[0]}/scale", {"instances": 1, "expires_in_s": 1e9}, 400),
        ("POST", f"/v1/instances/{REGIONS[0]}/b1/explode", None, 400),
        ("POST", "/v1/instances/nowhere/b1/drain", None, 404),
        ("POST", "/v1/slas/a", None, 405),
    ],
)
async def test_what_cannot_be_read_is_a_problem_and_changes_nothing(http, control, method, path, body, status):
    answer = await http.request(method, path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert control.changes == []


async def test_a_page_of_another_site_changes_nothing(http, control):
    path = f"/v1/instances/{REGIONS[0]}/b1/restart"
    assert (await http.post(path, headers={"origin": "https://elsewhere.example"})).status_code == 403
    assert control.changes == []
    own = str(http.base_url).rstrip("/")
    assert (await http.post(path, headers={"origin": own})).status_code == 202


async def test_what_was_changed_is_read_anew(http, control):
    await http.get("/v1/regions")
    before = control.reads
    await http.put(f"/v1/regions/{REGIONS[0]}/scale", json={"instances": 1})
    await http.get("/v1/regions")
    assert control.reads == before + 2  # the change, and the one region that was asked again


async def test_a_manager_that_does_not_answer_in_time_may_have_done_it(http, control):
    control.refuse = lambda region, change, name: UnavailableError("the manager does not answer")
    assert (await http.delete("/v1/regions/onprem.berlin/scale")).status_code == 503
