"""Two copies of everything, on a real federation: instances are killed, frozen, robbed of their disk, and drained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest
import yaml

from fedbus.clock import SystemClock
from fedbus.threads import spawn
from tests.federation.conftest import RunningFederation, fedbus_command
from tests.federation.waiting import until

pytestmark = pytest.mark.ray

REGION = "onprem.berlin"


class ReplicatedFederation(RunningFederation):
    """One region with three instances, two copies of each ledger."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        options = yaml.safe_load(self.file.read_text())
        region = options["regions"][REGION]
        region |= {"instances": {"initial": 3, "min": 3, "max": 4}, "replicas": 2, "takeover_after": "3s"}
        options["regions"] = {REGION: region}
        self.file.write_text(yaml.safe_dump(options))

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "up.log").read_text()[-4000:]
        try:
            return self.http.get("/readyz").is_success and self.whole()
        except Exception:  # noqa: BLE001 - it is starting
            return False

    def whole(self) -> bool:
        """Three healthy instances, each writing a ledger; two copies of every ledger; nothing under way."""
        instances = {each["instance"]: each for each in self.items("instances")}
        ledgers = {each["ledger"]: each for each in self.items("ledgers")}
        writing = [each["ledger"] for each in instances.values() if each["state"] == "healthy" and each["ledger"]]
        return (
            len(writing) == 3
            and all(ledgers[each]["state"] == "OPEN" for each in writing if each in ledgers)
            and all(each["state"] == "CLOSED" for each in ledgers.values() if each["ledger"] not in writing)
            and all(each["copies"] >= 2 and each["dispatcher"] in instances for each in ledgers.values())
        )

    def explain(self) -> str:
        """What there is, for a test that failed."""
        kept = ("instance", "state", "ledger", "detail", "pid")
        instances = [{name: each[name] for name in kept} for each in self.items("instances")]
        decisions = [each["message"] for each in self.decisions()]
        return json.dumps([instances, self.items("ledgers"), decisions[:40]], indent=1)

    def decisions(self) -> list[dict[str, Any]]:
        """What the manager noted, newest first."""
        log = self.directory / "data" / "test" / REGION / "store.db"
        with sqlite3.connect(f"file:{log}?mode=ro", uri=True) as store:
            rows = store.execute("SELECT message FROM status_log ORDER BY number DESC LIMIT 60").fetchall()
        return [{"message": message} for (message,) in rows]


class Traffic:
    """Events published one after the other over HTTP, each tried until it is acknowledged."""

    def __init__(self, federation: ReplicatedFederation, topic: str) -> None:
        self.acknowledged: list[int] = []
        self.longest_ms = 0.0
        self._federation, self._topic = federation, topic
        self._ending, self._clock = Event(), SystemClock()
        self._thread = spawn("traffic", self._run)

    def _run(self) -> None:
        number = 0
        last_ns = self._clock.monotonic_ns()
        while not self._ending.is_set():
            try:
                done = self._federation.publish(self._topic, number).is_success
            except Exception:  # noqa: BLE001 - tried again
                done = False
            now_ns = self._clock.monotonic_ns()
            if done:
                self.acknowledged.append(number)
                self.longest_ms, last_ns = max(self.longest_ms, (now_ns - last_ns) / 1e6), now_ns
                number += 1
            self._ending.wait(0.005)

    def end(self) -> list[int]:
        """Stop; what was acknowledged."""
        self._ending.set()
        self._thread.join()
        return self.acknowledged


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedFederation]:
    running = ReplicatedFederation(tmp_path_factory.mktemp("replicated"))
    running.up()
    yield running
    assert running.process is not None
    if running.process.poll() is None:
        running.down()


@pytest.fixture
def federation(replicated: ReplicatedFederation) -> ReplicatedFederation:
    until(replicated.whole, 60, "three instances and two copies of everything", replicated.explain)
    return replicated


def received(federation: ReplicatedFederation, topic: str, wanted: set[Any], field: str = "data") -> set[Any]:
    """What a group from the beginning gets, until that is all that is wanted; duplicates are counted once."""
    arguments = ["subscribe", topic, "--group", f"all-{topic}", "--from", "earliest", "--json", "--region", REGION]
    process = subprocess.Popen(
        [fedbus_command(), "--url", federation.url, *arguments], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    got: set[Any] = set()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            got.add(json.loads(line)[field])

    reader = spawn("received", read)
    try:
        until(lambda: wanted <= got, 60, f"{len(wanted)} events of {topic}",
              lambda: f"{len(wanted - got)} are missing; {federation.explain()}")  # fmt: skip
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        reader.join()
    return got


def victim(federation: ReplicatedFederation) -> dict[str, Any]:
    """An instance that has events of its own."""
    return max(federation.items("instances"), key=lambda each: each["published_total"])


def ledger(federation: ReplicatedFederation, name: str) -> dict[str, Any]:
    return next(each for each in federation.items("ledgers") if each["ledger"] == name)


def test_an_instance_killed_while_it_writes_costs_no_acknowledged_event(federation: ReplicatedFederation) -> None:
    traffic = Traffic(federation, "killed.a")
    until(lambda: len(traffic.acknowledged) > 100, 30, "traffic")
    hit = victim(federation)
    os.kill(hit["pid"], signal.SIGKILL)
    until(lambda: len(traffic.acknowledged) > 600, 60, "traffic goes on", federation.explain)
    until(federation.whole, 60, "it is back", federation.explain)
    sent = traffic.end()
    received(federation, "killed.a", set(sent))


def test_a_frozen_instance_loses_its_ledger_and_begins_anew(federation: ReplicatedFederation) -> None:
    traffic = Traffic(federation, "frozen.a")
    until(lambda: len(traffic.acknowledged) > 100, 30, "traffic")
    hit = victim(federation)
    written, process = hit["ledger"], psutil.Process(hit["pid"])
    process.suspend()
    try:
        until(lambda: ledger(federation, written)["state"] == "CLOSED", 30, "it is taken over", federation.explain)
        until(lambda: ledger(federation, written)["dispatcher"] != hit["instance"], 30, "and served by another",
              federation.explain)  # fmt: skip
        end = ledger(federation, written)["end"]
        count = len(traffic.acknowledged)
        until(lambda: len(traffic.acknowledged) > count + 100, 30, "traffic goes on", federation.explain)
    finally:
        process.resume()
    until(federation.whole, 60, "it is back", federation.explain)
    anew = next(each for each in federation.items("instances") if each["instance"] == hit["instance"])
    assert anew["ledger"] not in (written, "")
    assert ledger(federation, written)["end"] == end
    sent = traffic.end()
    received(federation, "frozen.a", set(sent))


def test_what_was_on_a_lost_disk_is_found_on_others_and_copied_again(federation: ReplicatedFederation) -> None:
    traffic = Traffic(federation, "lost.a")
    until(lambda: len(traffic.acknowledged) > 200, 30, "traffic")
    hit = victim(federation)
    process = psutil.Process(hit["pid"])
    process.suspend()  # so that nothing of it is written after its directory is gone
    name = hit["instance"].rpartition("/")[2]
    shutil.rmtree(federation.directory / "data" / "test" / REGION / "instances" / name)
    process.kill()
    until(
        lambda: ledger(federation, hit["ledger"])["dispatcher"] != hit["instance"]
        and ledger(federation, hit["ledger"])["copies"] == 2,
        60, "another serves it, and there are two copies", federation.explain,
    )  # fmt: skip
    until(federation.whole, 60, "everything is whole", federation.explain)
    sent = traffic.end()
    received(federation, "lost.a", set(sent))


def test_a_drained_instance_hands_over_what_it_holds(
    federation: ReplicatedFederation, events_file: Callable[[int], Path]
) -> None:
    sent = federation.command("publish", "drained.a", "--file", str(events_file(3000)), "--key-field", "/k")
    assert sent.returncode == 0, sent.stderr
    hit = victim(federation)
    held = {each["ledger"] for each in federation.items("ledgers") if hit["instance"] in each["members"]}
    name = hit["instance"].rpartition("/")[2]
    answer = federation.http.post(f"/v1/instances/{REGION}/{name}/drain")
    assert answer.is_success, answer.text
    until(lambda: hit["instance"] not in {each["instance"] for each in federation.items("instances")}, 60, "drained",
          federation.explain)  # fmt: skip
    until(lambda: all(hit["instance"] not in ledger(federation, each)["members"] for each in held), 30,
          "its copies are with others", federation.explain)  # fmt: skip
    assert all(ledger(federation, each)["copies"] == 2 for each in held)
    received(federation, "drained.a", set(sent.stdout.split()), "id")
