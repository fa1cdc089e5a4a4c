"""``python -m fedbus_loadtests.load``: locust users against a federation started for them, and who got what.

Locust runs in a process of its own, because it patches the standard library with gevent. A durable group receives what
the users publish; every event that the gateway accepted must reach it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec
from rich.console import Console
from rich.table import Table

import fedbus
from fedbus.clock import NS_PER_S, SystemClock
from fedbus.errors import EnvironmentUnusableError, FedbusError
from fedbus.options import FederationOptions
from fedbus.options.federation import LOCAL_REGIONS
from fedbus_loadtests.ports import free_blocks, free_port

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
FILTER, GROUP = "load.>", "audit"
PORTS_PER_REGION, PORTS_USED = 50, 4
STOP_S = 10
SETTLE_S = 15.0
TAKE, TAKE_S = 1000, 0.5


class Request(msgspec.Struct):
    """One row of locust's statistics: times in ms, and how many requests took each (rounded) time."""

    name: str
    num_requests: int
    num_failures: int
    response_times: dict[float, int]
    start_time: float
    last_request_timestamp: float | None = None

    def percentile(self, share: float) -> float:
        """Of the response times, in ms (0 if there are none)."""
        left = share * sum(self.response_times.values())
        for time_ms, count in sorted(self.response_times.items()):
            left -= count
            if left <= 0:
                return time_ms
        return 0.0

    @property
    def per_s(self) -> float:
        """Requests per second."""
        return self.num_requests / max(1e-3, (self.last_request_timestamp or self.start_time) - self.start_time)


class Result(msgspec.Struct):
    """What came of a run."""

    requests: list[Request]
    accepted: int
    streamed: int
    delivered: int
    duplicates: int

    @property
    def problems(self) -> list[str]:
        """What must not be, in sentences."""
        failures = sum(request.num_failures for request in self.requests)
        found = [f"{failures} requests failed"] if failures else []
        if not self.accepted:
            found.append("no event was accepted")
        if self.delivered != self.accepted:
            found.append(f"{self.accepted} events were accepted, {self.delivered} delivered")
        return found


@click.command()
@click.option("--users", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Users at the same time.")
@click.option("--seconds", type=click.FloatRange(3, 86_400), default=20.0, show_default=True, help="How long.")
@click.option("--shape", type=click.Choice(["steady", "ramp", "burst"]), default="steady", show_default=True)
@click.option("--port", type=click.IntRange(1, 65_535), help="The gateway's port [default: a free one].")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object on stdout.")
def load(users: int, seconds: float, shape: str, port: int | None, *, as_json: bool) -> None:
    """Locust users against a federation that is started for them on free ports and removed afterwards.

    Exit status 1 if a request failed, or if an event was accepted and not delivered to a durable group.
    """
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="fedbus-load-") as directory:
        from fedbus_actors.launch import launch

        options = _options(Path(directory), port or free_port())
        federation = launch(options, progress=lambda line: console.print(line, highlight=False))
        federation.start()
        try:
            console.print(f"{users} users for {seconds:g} s against {federation.url}", highlight=False)
            environment = {"SHAPE": shape, "USERS": str(users), "SECONDS": str(seconds)}
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                result = runner.run(_run(federation.url, Path(directory), users, seconds, environment))
        finally:
            federation.stop()
    problems = result.problems
    if as_json:
        summary = msgspec.to_builtins(result) | {"ok": not problems, "problems": problems}
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
    else:
        Console().print(_table(result))
    for problem in problems:
        console.print(f"✗ {problem}", style="bold red")
    sys.exit(1 if problems else 0)


def _options(directory: Path, port: int) -> FederationOptions:
    first = free_blocks(len(LOCAL_REGIONS), PORTS_PER_REGION, PORTS_USED)
    return FederationOptions.model_validate(
        {
            "name": "load",
            "regions": {
                name: region | {"listen": {"ports": f"{start}-{start + PORTS_PER_REGION - 1}"}}
                for (name, region), start in zip(
                    LOCAL_REGIONS.items(), range(first, first + 10_000, PORTS_PER_REGION), strict=False
                )
            },
            "gateway": {"port": port},
            "data": {"directory": str(directory / "data")},
        }
    )


async def _run(url: str, directory: Path, users: int, seconds: float, environment: Mapping[str, str]) -> Result:
    """Locust beside a consumer; returns when every accepted event has arrived, or nothing arrives any more."""
    report, statistics, log = (directory / name for name in ("report.json", "statistics.json", "locust.log"))
    audit = _Audit()
    async with fedbus.connect(url, region=next(iter(LOCAL_REGIONS))) as bus:
        consuming = asyncio.create_task(audit.consume(bus))
        with statistics.open("w") as output, log.open("w") as errors:
            process = _start_locust(url, report, (output, errors), users, seconds, environment)
            try:
                await asyncio.to_thread(process.wait)
            finally:
                if process.poll() is None:
                    process.terminate()
        if not report.exists():
            raise EnvironmentUnusableError(f"locust did not run (status {process.returncode}):\n{log.read_text()}")
        said = msgspec.json.decode(report.read_bytes(), type=dict[str, int])
        await audit.settle(said["accepted"])
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
    requests = msgspec.json.decode(statistics.read_bytes(), type=list[Request], strict=False)
    return Result(requests, said["accepted"], said["streamed"], len(audit.seen), audit.duplicates)


def _start_locust(
    url: str, report: Path, outputs: tuple[TextIO, TextIO], users: int, seconds: float, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", url, "--headless", "--json"]
    command += ["--stop-timeout", str(STOP_S), "--loglevel", "WARNING", "--only-summary", "--exit-code-on-error", "0"]
    if environment["SHAPE"] == "steady":
        command += ["-u", str(users), "-r", str(max(1, users // 2)), "-t", f"{seconds:g}s"]
    ours = {f"FEDBUS_LOAD_{name}": value for name, value in environment.items()}
    environ = os.environ | ours | {"FEDBUS_LOAD_REPORT": str(report)}
    return subprocess.Popen(command, stdout=outputs[0], stderr=outputs[1], env=environ)


class _Audit:
    """A durable group over everything the users publish."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.duplicates = 0
        self._clock = SystemClock()

    async def consume(self, bus: Any) -> None:
        while True:
            try:
                async with bus.subscribe(FILTER, group=GROUP) as subscription:
                    while True:
                        for event in await subscription.take(TAKE, TAKE_S):
                            self.duplicates += event.id in self.seen
                            self.seen.add(event.id)
                            await event.ack()
            except FedbusError as error:
                Console(stderr=True).print(f"{GROUP}: {error.detail}", highlight=False)
                await asyncio.sleep(TAKE_S)

    async def settle(self, expected: int) -> None:
        """Wait until so many events have arrived, or none has for a while."""
        count, since_ns = -1, self._clock.monotonic_ns()
        while len(self.seen) < expected and self._clock.monotonic_ns() - since_ns < SETTLE_S * NS_PER_S:
            if len(self.seen) != count:
                count, since_ns = len(self.seen), self._clock.monotonic_ns()
            await asyncio.sleep(0.1)


def _table(result: Result) -> Table:
    table = Table(title="fedbus load", title_justify="left")
    for name in ("request", "count", "failed", "per s", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "request" else "right")
    for each in _sorted(result.requests):
        table.add_row(
            each.name, f"{each.num_requests:,}", f"{each.num_failures:,}", f"{each.per_s:,.0f}",
            f"{each.percentile(0.5):.0f}", f"{each.percentile(0.99):.0f}",
        )  # fmt: skip
    table.caption = (
        f"events: accepted {result.accepted:,}, delivered to a durable group {result.delivered:,}, "
        f"duplicates {result.duplicates:,}, seen on streams {result.streamed:,}"
    )
    return table


def _sorted(requests: Sequence[Request]) -> list[Request]:
    return sorted(requests, key=lambda request: request.name)


if __name__ == "__main__":
    load()
