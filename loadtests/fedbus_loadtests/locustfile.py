"""Locust users of the gateway: publishers of single events and of batches, keyed or not, and readers of the stream.

    locust -f loadtests/fedbus_loadtests/locustfile.py --host http://127.0.0.1:8000

``FEDBUS_LOAD_SHAPE``: ``steady`` (locust's own -u and -r), ``ramp`` (up and down again) or ``burst`` (four times the
users for a while), with ``FEDBUS_LOAD_USERS`` and ``FEDBUS_LOAD_SECONDS``. ``FEDBUS_LOAD_REPORT``: a file for what was
accepted.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
from pathlib import Path
from typing import Any

from locust import FastHttpUser, HttpUser, LoadTestShape, constant_throughput, events, task

from fedbus.clock import NS_PER_S, SystemClock

SHAPE = os.environ.get("FEDBUS_LOAD_SHAPE", "steady")
USERS = int(os.environ.get("FEDBUS_LOAD_USERS", "20"))
SECONDS = float(os.environ.get("FEDBUS_LOAD_SECONDS", "20"))
REPORT = os.environ.get("FEDBUS_LOAD_REPORT", "")
SOURCE = "fedbus-load"
ACCEPTED = 202
BATCH = 50
CUSTOMERS = 200
STREAM_S = 2.0
CLOCK = SystemClock()


class Tally:
    """What the gateway said it has accepted, and what readers saw of it."""

    accepted = 0
    streamed = 0


class _Publisher(FastHttpUser):
    abstract = True

    def on_start(self) -> None:
        """Every user has names of its own."""
        self._name = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def event(self, *, keyed: bool) -> dict[str, Any]:
        """The next event."""
        number = next(self._numbers)
        event = {
            "specversion": "1.0", "id": f"{self._name}-{number}", "source": SOURCE, "type": "load.order",
            "datacontenttype": "application/json", "data": {"number": number, "note": "x" * 80},
        }  # fmt: skip
        return event | {"partitionkey": f"customer-{number % CUSTOMERS}"} if keyed else event

    def publish(self, topic: str, body: Any, content_type: str, name: str) -> None:
        """One request; it succeeds if everything in it is durable."""
        with self.client.post(
            f"/v1/topics/{topic}/events",
            data=json.dumps(body),
            headers={"content-type": content_type},
            name=name,
            catch_response=True,
        ) as answer:
            expected = len(body) if isinstance(body, list) else 1
            found = (answer.json() or {}).get("accepted") if answer.status_code == ACCEPTED else None
            if found == expected:
                Tally.accepted += expected
                answer.success()
            else:
                answer.failure(f"{answer.status_code}: {(answer.text or '')[:200]}")


class SinglePublisher(_Publisher):
    """Publishes one event per request."""

    weight = 6
    wait_time = constant_throughput(10)

    @task(2)
    def keyed(self) -> None:
        """In order per customer."""
        self.publish("load.single.keyed", self.event(keyed=True), "application/cloudevents+json", "single, keyed")

    @task(1)
    def keyless(self) -> None:
        """To whichever instance is best."""
        self.publish("load.single.any", self.event(keyed=False), "application/cloudevents+json", "single")


class BatchPublisher(_Publisher):
    """Publishes batches."""

    weight = 3
    wait_time = constant_throughput(2)

    @task
    def batch(self) -> None:
        """Half of it keyed."""
        batch = [self.event(keyed=place % 2 == 0) for place in range(BATCH)]
        self.publish("load.batch", batch, "application/cloudevents-batch+json", f"batch of {BATCH}")


class StreamReader(HttpUser):
    """Follows the stream of single events for a moment, again and again."""

    weight = 1
    wait_time = constant_throughput(0.3)

    @task
    def read(self) -> None:
        """A request that never ends by itself: its time is that to the first line."""
        until_ns = CLOCK.monotonic_ns() + int(STREAM_S * NS_PER_S)
        with self.client.get(
            "/v1/events",
            params={"filter": "load.single.>"},
            stream=True,
            name="stream",
            timeout=30,
            catch_response=True,
        ) as answer:
            if not answer.ok:
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")
                return
            for line in answer.iter_lines():
                Tally.streamed += line.startswith(b"data:")
                if CLOCK.monotonic_ns() > until_ns:
                    break
            answer.success()


def _passed(shape: LoadTestShape) -> float:
    """The share of the time that has passed."""
    return float(shape.get_run_time()) / SECONDS  # type: ignore[no-untyped-call]


if SHAPE == "ramp":

    class Ramp(LoadTestShape):
        """Up to all users at half-time, and down again."""

        def tick(self) -> tuple[int, float] | None:
            """Users now, and how many start per second; None: it is over."""
            share = _passed(self)
            return None if share >= 1 else (max(1, round(USERS * (1 - abs(2 * share - 1)))), USERS)

elif SHAPE == "burst":

    class Burst(LoadTestShape):
        """A quarter of the users, but all of them in the third fifth of the time."""

        def tick(self) -> tuple[int, float] | None:
            """Users now, and how many start per second; None: it is over."""
            share = _passed(self)
            return None if share >= 1 else (USERS if 0.4 <= share < 0.6 else max(1, USERS // 4), USERS)  # noqa: PLR2004

elif SHAPE != "steady":
    raise SystemExit(f"FEDBUS_LOAD_SHAPE is {SHAPE!r}: use steady, ramp or burst")


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # locust ships no types for its events
def _report(**_: Any) -> None:
    if REPORT:
        Path(REPORT).write_text(json.dumps({"accepted": Tally.accepted, "streamed": Tally.streamed}))
