"""Instances come and go; what they hold stays found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.federation.conftest import REGIONS, RunningFederation
from tests.federation.waiting import until

pytestmark = pytest.mark.ray

REGION = REGIONS[1]


def healthy(federation: RunningFederation) -> list[str]:
    return sorted(i["instance"] for i in federation.items("instances", REGION) if i["state"] == "healthy")


def test_a_drained_instances_events_are_served_by_its_sibling(
    federation: RunningFederation, events_file: Callable[[int], Path]
) -> None:
    before = healthy(federation)
    assert federation.command("scale", REGION, "--instances", str(len(before) + 1)).returncode == 0
    until(lambda: len(healthy(federation)) == len(before) + 1, 60, "another instance is in service")

    # A group from the beginning knows the topic at every instance; it reads one event and leaves the rest behind.
    sent = federation.command(
        "publish", "drained.a", "--file", str(events_file(2000)), "--key-field", "/k", "--region", REGION
    )
    assert sent.returncode == 0, sent.stderr
    ids = set(sent.stdout.split())
    arguments = ("subscribe", "drained.>", "--group", "drained", "--region", REGION, "--json", "--max")
    first = federation.command(*arguments, "1")
    assert first.returncode == 0, first.stderr

    assert federation.command("scale", REGION, "--instances", str(len(before))).returncode == 0
    until(lambda: len(federation.items("instances", REGION)) == len(before), 90, "one instance is drained",
          lambda: federation.items("directives", REGION)[:3])  # fmt: skip
    drain = next(d for d in federation.items("directives", REGION) if d["action"] == "drain")
    assert drain["state"] == "done"
    assert drain["reason"]

    rest = federation.command(*arguments, str(len(ids) - 1))
    received = {json.loads(line)["id"] for line in (first.stdout + rest.stdout).splitlines()}
    assert received == ids, rest.stderr
    assert federation.command("publish", "drained.b", "--data", "1", "--region", REGION).returncode == 0
