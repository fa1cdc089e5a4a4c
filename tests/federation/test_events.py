"""A user's events, through a whole federation: nothing acknowledged is lost, whatever is killed meanwhile."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.federation.conftest import REGIONS, RunningFederation, fedbus_command
from tests.federation.waiting import until

pytestmark = pytest.mark.ray

CLOUD_EVENT = {"specversion": "1.0", "id": "e-1", "source": "/test", "type": "modes.structured", "data": {"a": 1}}


def received(lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


def subscriber(federation: RunningFederation, *arguments: str) -> subprocess.Popen[str]:
    command = [fedbus_command(), "--url", federation.url, "subscribe", "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_all_arrived(group: subprocess.Popen[str], ids: set[str]) -> list[dict[str, Any]]:
    """What the subscriber printed until it had printed all of these; pytest's own time-out bounds it."""
    events: list[dict[str, Any]] = []
    missing = set(ids)
    assert group.stdout is not None
    while missing:
        line = group.stdout.readline()
        assert line, f"the subscriber ended; {len(missing)} acknowledged events did not arrive"
        events.append(json.loads(line))
        missing.discard(events[-1]["id"])
    group.send_signal(signal.SIGINT)
    group.wait(20)
    return events


def posted(url: str, headers: dict[str, str], body: bytes) -> bytes:
    """What ``curl`` gets for a POST; where there is no curl, what any other client gets."""
    if shutil.which("curl") is None:
        return httpx.post(url, headers=headers, content=body, trust_env=False).raise_for_status().content
    arguments = [argument for name, value in headers.items() for argument in ("-H", f"{name}: {value}")]
    command = ["curl", "-sS", "--fail-with-body", *arguments, "--data-binary", "@-", url]
    done = subprocess.run(command, input=body, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize(
    ("mode", "path", "headers", "body"),
    [
        (
            "binary",
            "/v1/topics/modes.binary/events",
            {
                "content-type": "text/plain",
                "ce-specversion": "1.0",
                "ce-id": "b-1",
                "ce-source": "/test",
                "ce-type": "t",
            },
            b"hello",
        ),
        (
            "structured",
            "/v1/events",
            {"content-type": "application/cloudevents+json"},
            json.dumps(CLOUD_EVENT).encode(),
        ),
        (
            "batch",
            "/v1/topics/modes.batch/events",
            {"content-type": "application/cloudevents-batch+json"},
            json.dumps([CLOUD_EVENT | {"id": f"e-{n}"} for n in range(3)]).encode(),
        ),
        (
            "ndjson",
            "/v1/topics/modes.ndjson/events",
            {"content-type": "application/x-ndjson"},
            b"\n".join(json.dumps(CLOUD_EVENT | {"id": f"n-{n}"}).encode() for n in range(4)),
        ),
    ],
)
def test_curl_publishes_in_every_cloudevents_mode(
    federation: RunningFederation, mode: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    answer = json.loads(posted(federation.url + path, headers, body))
    assert answer["accepted"] == len(answer["ids"]) == len(answer["positions"]) > 0
    found = federation.command(
        "subscribe", f"modes.{mode}", "--from", "earliest", "--json", "--max", str(answer["accepted"])
    )
    assert [event["id"] for event in received(found.stdout)] == answer["ids"], found.stderr


def test_a_malformed_event_is_refused_with_its_place_and_nothing_of_the_batch_is_stored(
    federation: RunningFederation,
) -> None:
    batch = [CLOUD_EVENT, CLOUD_EVENT | {"source": ""}]
    answer = federation.http.post(
        "/v1/topics/refused.batch/events",
        content=json.dumps(batch),
        headers={"content-type": "application/cloudevents-batch+json"},
    )
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["retryable"] is False
    assert [error["index"] for error in problem["errors"]] == [1]
    assert "source" in json.dumps(problem["errors"])
    assert not [g for g in federation.items("subscriptions") if g["group"] == "refused"]
    done = federation.command("publish", "refused.batch", "--data", "1")
    assert done.returncode == 0
    found = federation.command("subscribe", "refused.batch", "--from", "earliest", "--json", "--max", "1")
    assert [event["id"] for event in received(found.stdout)] == done.stdout.split()


def test_a_file_of_100_000_events_reaches_a_group_once_and_in_order_while_an_instance_is_killed(
    federation: RunningFederation, events_file: Callable[[int], Path], tmp_path: Path
) -> None:
    count = 100_000
    file = events_file(count)
    group = subscriber(federation, "file.>", "--group", "file-readers")
    victim = federation.instance(REGIONS[0])
    command = [fedbus_command(), "--url", federation.url, "publish", "file.a", "--file", str(file), "--key-field", "/k"]
    with (tmp_path / "stderr").open("w+") as stderr:
        publisher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert publisher.stdout is not None
        acknowledged = {publisher.stdout.readline().strip()}  # some are acknowledged, most are not
        os.kill(victim["pid"], signal.SIGKILL)
        acknowledged.update(publisher.stdout.read().split())
        assert publisher.wait(120) == 0, (tmp_path / "stderr").read_text()
    assert len(acknowledged) == count
    events = until_all_arrived(group, acknowledged)
    seen: set[str] = set()
    last: dict[tuple[str, str], int] = {}
    for event in events:
        if event["id"] not in seen:
            seen.add(event["id"])
            ledger, _, offset = event["position"].rpartition(":")
            place = (ledger, event["partitionkey"])
            assert last.get(place, -1) < int(offset), f"{event} came before an earlier one of its key"
            last[place] = int(offset)
    until(
        lambda: (
            federation.instance(REGIONS[0])["pid"] != victim["pid"]
            and federation.instance(REGIONS[0])["state"] == "healthy"
        ),
        30,
        "the killed instance is back",
    )


def test_events_reach_a_group_of_another_region_once_with_their_origin_position(
    federation: RunningFederation, events_file: Callable[[int], Path]
) -> None:
    home, away = REGIONS[0], REGIONS[2]
    count = 5_000
    group = subscriber(federation, "far.>", "--group", "far-readers", "--region", away, "--max", str(count + 1))
    sent = federation.command(
        "publish", "far.a", "--file", str(events_file(count)), "--key-field", "/k", "--region", home
    )
    assert sent.returncode == 0, sent.stderr
    near = federation.command("publish", "far.b", "--data", "1", "--region", away)
    assert near.returncode == 0, near.stderr
    output, complaints = group.communicate(timeout=60)
    events = received(output)
    assert Counter(e["id"] for e in events) == Counter([*sent.stdout.split(), *near.stdout.split()]), complaints
    born = {e["topic"]: e["position"].split("/")[0] for e in events}
    assert born == {"far.a": home, "far.b": away}


def test_binary_data_survives_unchanged(federation: RunningFederation) -> None:
    data = bytes(range(256))
    answer = federation.http.post(
        "/v1/topics/bytes.a/events",
        content=data,
        headers={
            "content-type": "application/octet-stream",
            "ce-specversion": "1.0",
            "ce-id": "x",
            "ce-source": "/t",
            "ce-type": "t",
        },
    )
    assert answer.status_code == 202, answer.text
    region = answer.headers["fedbus-instance"].rpartition("/")[0]  # what is past is not pulled for a live subscription
    how = ("--from", "earliest", "--region", region, "--json", "--max", "1")
    found = federation.command("subscribe", "bytes.a", *how)
    assert base64.b64decode(received(found.stdout)[0]["data_base64"]) == data


def test_an_event_stream_over_http_resumes_where_it_was(federation: RunningFederation) -> None:
    for number in range(3):
        assert federation.command("publish", "sse.a", "--data", str(number)).returncode == 0

    def read(count: int, headers: dict[str, str]) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        cursor = ""
        with federation.http.stream("GET", "/v1/events?filter=sse.%3E&from=earliest", headers=headers) as stream:
            for line in stream.iter_lines():
                if line.startswith("id:"):
                    cursor = line[3:].strip()
                elif line.startswith("data:"):
                    found.append((cursor, json.loads(line[5:])["data"]))
                    if len(found) == count:
                        break
        return found

    first = read(2, {})
    assert [data for _, data in first] == [0, 1]
    assert [data for _, data in read(1, {"last-event-id": first[-1][0]})] == [2]
