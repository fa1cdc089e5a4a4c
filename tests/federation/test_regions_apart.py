"""Two regions apart: each a Ray cluster and a gateway of its own, here side by side on one host."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.federation.conftest import fedbus_command, free_range
from tests.federation.waiting import until

pytestmark = pytest.mark.ray

HERE, THERE = "aa.here", "bb.there"


class RegionsApart:
    """``fedbus up --region`` for each, with one file and one data directory."""

    def __init__(self, directory: Path) -> None:
        first = free_range(40)
        self.file = directory / "federation.yaml"
        self.urls = {name: f"http://127.0.0.1:{first + place}" for place, name in enumerate((HERE, THERE))}
        regions = {
            name: {
                "listen": {"ports": f"{first + 10 + 10 * place}-{first + 19 + 10 * place}"},
                "gateway": {"port": first + place},
                "instances": {"max": 4},
            }
            for place, name in enumerate(self.urls)
        }
        options = {"name": "apart", "regions": regions, "data": {"directory": str(directory / "data")}}
        self.file.write_text(yaml.safe_dump(options))

    def fedbus(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Any command."""
        return subprocess.run(
            [fedbus_command(), *arguments], capture_output=True, text=True, timeout=150, check=False, **options
        )

    def at(self, region: str, *arguments: str, **options: Any) -> str:
        """What a command prints that asks the gateway of that region."""
        done = self.fedbus("--url", self.urls[region], *arguments, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(self, region: str) -> None:
        """Start one."""
        done = self.fedbus("up", "--detach", "-c", str(self.file), "--region", region)
        assert done.returncode == 0, done.stderr

    def down(self, *regions: str) -> None:
        """Stop these, or all."""
        which = [word for region in regions for word in ("--region", region)]
        done = self.fedbus("down", "-c", str(self.file), *which)
        assert done.returncode == 0, done.stderr

    def states(self, asked: str) -> dict[str, str]:
        """Every region's state, as the gateway of one says."""
        items = httpx.get(f"{self.urls[asked]}/v1/regions", timeout=20, trust_env=False).json()["items"]
        return {each["region"]: each["state"] for each in items}


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegionsApart]:
    regions = RegionsApart(tmp_path_factory.mktemp("apart"))
    try:
        for region in (HERE, THERE):
            regions.up(region)
        for region in (HERE, THERE):
            until(lambda asked=region: set(regions.states(asked).values()) == {"healthy"}, 30, "they know one another")
        yield regions
    finally:
        regions.down()


def test_either_gateway_answers_for_both_regions(apart: RegionsApart, tmp_path: Path) -> None:
    listed = json.loads(apart.at(HERE, "region", "list", "--json"))
    assert [(each["region"], each["gateway"]) for each in listed] == list(apart.urls.items())
    assert apart.at(HERE, "region", "key", THERE) == apart.at(THERE, "region", "key")
    assert [[peer["region"] for peer in each["peers"]] for each in listed] == [[THERE], [HERE]]
    apart.at(HERE, "sla", "set", "a.>", "--latency", "100ms")
    assert "a.>" in apart.at(THERE, "sla", "list")
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    apart.at(THERE, "schema", "register", "checked.a-value", str(schema))
    assert "checked.a-value" in apart.at(HERE, "schema", "list")


def test_events_of_both_reach_a_group_in_one(apart: RegionsApart) -> None:
    ids = {apart.at(HERE, "publish", "b.x", "--data", "1", "--region", region).strip() for region in (HERE, THERE)}
    received = apart.at(THERE, "subscribe", "b.>", "--group", "both", "--json", "--max", "2")
    events = [json.loads(line) for line in received.splitlines()]
    assert {event["id"] for event in events} == ids
    assert {event["position"].partition("/")[0] for event in events} == {HERE, THERE}


def test_a_region_that_is_gone_is_lost_and_the_other_goes_on_and_finds_it_again(apart: RegionsApart) -> None:
    apart.down(HERE)
    until(lambda: apart.states(THERE)[HERE] == "lost", 30, "it is missed")
    assert "lost since" in apart.at(THERE, "status")
    first_gone = ",".join(apart.urls.values())
    sent = apart.fedbus("publish", "c.x", "--data", "1", env=os.environ | {"FEDBUS_URL": first_gone})
    assert sent.returncode == 0, sent.stderr
    apart.up(HERE)
    until(lambda: apart.states(THERE)[HERE] == "healthy", 30, "it is heard again")
    received = apart.at(HERE, "subscribe", "c.>", "--group", "late", "--json", "--max", "1")
    assert json.loads(received)["id"] == sent.stdout.strip()
