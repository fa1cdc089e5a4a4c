"""The control plane may die and come back; meanwhile events flow, and afterwards it goes on from its store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import httpx
import pytest

from tests.federation.conftest import REGIONS, RunningFederation
from tests.federation.waiting import until

pytestmark = pytest.mark.ray

BACK_S = 15


def kill_all(federation: RunningFederation, kind: str) -> Callable[[], bool]:
    """Kill -9 all actors of a kind; the result says whether as many new ones are there and the managers answer."""
    before = {process.pid for process in federation.processes(f"ray::{kind}")}
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        now = {process.pid for process in federation.processes(f"ray::{kind}")}
        stale = [
            federation.http.get("/v1/regions", params={"region": each}).json().get("stale", True) for each in REGIONS
        ]
        return len(now - before) == len(before) and not any(stale)

    return back


@pytest.mark.parametrize("kind", ["FederationManager", "HealthMonitor", "Forecaster"])
def test_killing_a_control_actor_stops_no_event_and_it_is_back(federation: RunningFederation, kind: str) -> None:
    back = kill_all(federation, kind)
    published = federation.publish("control.a", {"while": kind})
    assert published.status_code == 202, published.text
    until(back, BACK_S, f"every {kind} is back")
    assert {i["state"] for i in federation.items("instances")} <= {"healthy", "degraded", "starting"}
    assert federation.publish("control.a", {"after": kind}).status_code == 202


def test_a_manager_that_comes_back_knows_what_its_predecessor_decided(federation: RunningFederation) -> None:
    known = federation.items("instances")
    until(kill_all(federation, "FederationManager"), BACK_S, "managers answer again")
    again = federation.items("instances")
    assert {(i["instance"], i["ledger"]) for i in again} == {(i["instance"], i["ledger"]) for i in known}


def test_bad_requests_are_problems_that_say_what_to_do(federation: RunningFederation) -> None:
    def problem(answer: httpx.Response) -> dict[str, object]:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        found: dict[str, object] = answer.json()
        assert {"type", "title", "detail", "retryable"} <= set(found)
        return found

    post = federation.http.post
    problem(post("/v1/topics/not a topic/events", json={}))
    assert post("/v1/topics/a..b/events", json={}).status_code == 400
    xml = {"content-type": "application/cloudevents+xml"}
    assert post("/v1/topics/ok/events", content=b"<a/>", headers=xml).status_code == 415
    large = federation.publish("ok", "x" * (2 * 2**20))
    assert large.status_code == 413
    assert problem(large)["retryable"] is False
    assert federation.http.get("/v1/events?filter=a.%3E.b").status_code == 400
    assert federation.publish("ok", {"still": "here"}).status_code == 202


def test_schemas_are_enforced_at_the_gateway(federation: RunningFederation) -> None:
    schema = '{"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}'
    answer = federation.http.post(
        "/registry/subjects/typed.a-value/versions", json={"schema": schema, "schemaType": "JSON"}
    )
    assert answer.status_code == 200, answer.text
    assert federation.http.get(f"/registry/schemas/ids/{answer.json()['id']}").json()["schema"]
    refused = federation.publish("typed.a", {"id": "seven"})
    assert refused.status_code == 422
    assert "/id" in refused.text
    assert federation.publish("typed.a", {"id": 7}).status_code == 202
