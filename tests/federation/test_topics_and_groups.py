"""Topic policies and durable groups over HTTP and the command line, on a running federation."""

import json

from tests.federation.conftest import REGIONS
from tests.federation.waiting import until


def test_a_policy_is_in_force_everywhere_when_the_command_returns(federation):
    done = federation.command("topic", "set", "policies.>", "--retention", "2d", "--dedup-window", "10m")
    assert done.returncode == 0, done.stderr
    shown = json.loads(federation.command("topic", "show", "policies.a", "--json").stdout)
    assert (shown["policy"], shown["retention_ms"], shown["dedup_window_ms"]) == ("policies.>", 172_800_000, 600_000)
    tie = federation.http.put("/v1/topics/%3E.b", json={})
    assert tie.status_code == 400
    assert federation.http.put("/v1/topics/policies.*", json={}).status_code == 200
    tie = federation.http.put("/v1/topics/*.b", json={})
    assert (tie.status_code, tie.json()["type"]) == (409, "conflict")
    for pattern in ("policies.*", "policies.>"):
        assert federation.command("topic", "delete", pattern).returncode == 0


def test_a_group_is_consumed_over_plain_http(federation):
    group = "/v1/subscriptions/over-http"
    made = federation.http.put(group, json={"filter": "plain.>", "ack_deadline_ms": 60_000})
    assert (made.json()["group"], made.json()["region"]) == ("over-http", REGIONS[0]), made.text
    for number in range(5):
        assert federation.publish("plain.a", {"n": number}).status_code == 202

    def pull(most):
        found = []
        while len(found) < most:
            answer = federation.http.post(f"{group}/pull", json={"max": most - len(found), "wait_ms": 10_000})
            assert answer.status_code == 200, answer.text
            assert answer.json(), f"{len(found)} of {most} came"
            found += answer.json()
        return found

    pulled = pull(5)
    assert sorted(each["event"]["data"]["n"] for each in pulled) == list(range(5))
    ids = [each["ack_id"] for each in pulled]
    assert federation.http.post(f"{group}/ack", json={"ack_ids": ids[:4]}).json() == {"settled": 4, "failed": []}
    federation.http.post(f"{group}/nack", json={"ack_ids": ids[4:], "delay_ms": 0})
    [again] = pull(1)
    assert (again["position"], again["delivery"]) == (pulled[4]["position"], 2)
    assert federation.http.post(f"{group}/seek", json={"start": "earliest"}).status_code == 200
    assert len(pull(5)) == 5
    assert federation.command("subscription", "delete", "over-http").returncode == 0
    assert federation.http.get(group).status_code == 404


def test_a_group_is_read_from_anywhere_and_goes_on_where_it_is_moved_to(federation):
    home = REGIONS[0]
    made = federation.command("subscription", "set", "moving", "--filter", "moving.>", "--home", home)
    assert made.returncode == 0, made.stderr

    def shown():
        return json.loads(federation.command("subscription", "show", "moving", "--json").stdout)

    def published(count):
        ids = set()
        for number in range(count):
            region = REGIONS[number % len(REGIONS)]
            sent = federation.command("publish", "moving.a", "--data", str(number), "--key", "k", "--region", region)
            assert sent.returncode == 0, sent.stderr
            ids.update(sent.stdout.split())
        return ids

    def read(count, region):
        how = ("--group", "moving", "--region", region, "--json", "--max", str(count))
        found = federation.command("subscribe", "moving.>", *how)
        assert found.returncode == 0, found.stderr
        return sorted(json.loads(line)["id"] for line in found.stdout.splitlines())

    group = shown()
    assert (group["region"], group["told_by"], group["term"], len(group["standbys"])) == (home, home, 1, 1)
    [to] = group["standbys"]
    first = published(6)
    assert read(6, to) == sorted(first)  # from the home's instances
    until(lambda: [each["events"] for each in shown()["unshared"]] == [0], 20, "the standby knows what is settled")
    moved = federation.command("subscription", "move", "moving", "--to", to)
    assert moved.returncode == 0, moved.stderr
    assert moved.stdout == f"group moving is at home in {to}\n"
    second = published(6)
    assert read(6, home) == sorted(second)  # nothing is missed, nothing comes again
    group = shown()
    assert (group["region"], group["preferred"], group["told_by"]) == (to, to, to)
    [listed] = [each for each in federation.items("subscriptions") if each["group"] == "moving"]
    assert listed["region"] == to
