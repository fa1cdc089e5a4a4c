"""A session: all benches one after the other on one machine, and the result file they leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from fedbus.errors import FedbusError
from fedbus.event import format_time_ns
from fedbus_loadtests.bench.machine import machine
from fedbus_loadtests.bench.options import relevant
from fedbus_loadtests.bench.params import PEERS, Params, Say, installed
from fedbus_loadtests.bench.report import Report
from fedbus_loadtests.bench.system import CLOCK

Bench = Callable[[Params, Say], Awaitable[Report]]

# name → (module, function); imported when run
BENCHES = {
    "publish": "publish:publish", "consume": "consume:consume", "latency": "latency:latency",
    "topics": "publish:topics", "fanout": "fanout:fanout", "route": "route:route", "slowed": "slowed:slowed",
    "tick": "tick:tick",
    "link": "link:link", "memory": "memory:memory", "recovery": "recovery:recovery", "failover": "failover:failover",
    "http": "http:http",
}  # fmt: skip
ALONE: dict[str, Any] = {"peers": ()}
# Each run of a session: its name, its bench, and what differs from the defaults.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "publish": ("publish", {"peers": PEERS}),
    "consume": ("consume", {"peers": PEERS}),
    "latency": ("latency", {"peers": PEERS, "round_s": 5.0}),
    "topics": ("topics", {"peers": ("nats", "redis")}),
    "fanout": ("fanout", {"peers": ("nats", "redis")}),
    "link": ("link", ALONE),
    "route": ("route", ALONE),
    "slowed": ("slowed", {**ALONE, "rounds": 3}),
    "tick": ("tick", ALONE),
    "memory": ("memory", ALONE),
    "recovery": ("recovery", ALONE),
    "publish-r3": ("publish", {"replicas": 3}),
    "failover": ("failover", {**ALONE, "replicas": 2, "rounds": 10}),
    "http": ("http", ALONE),
}


class Results(msgspec.Struct):
    """The result file. ``failures``: runs that did not end, and why."""

    made_at: str
    machine: dict[str, Any]
    runs: dict[str, dict[str, Any]]
    failures: dict[str, str] = {}

    @classmethod
    def read(cls, path: Path) -> Results:
        """From a file."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    @classmethod
    def runs_in(cls, path: Path) -> dict[str, dict[str, Any]]:
        """The runs in a file; none if there is no such file."""
        return cls.read(path).runs if path.exists() else {}

    def write(self, path: Path) -> None:
        """To a file, for people too."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def find(bench: str) -> Bench:
    """A bench by its name."""
    module, name = BENCHES[bench].split(":")
    found: Bench = getattr(import_module(f"fedbus_loadtests.bench.{module}"), name)
    return found


async def measure(bench: str, params: Params, say: Say) -> Report:
    """One bench; its report names the parameters that it has."""
    report = await find(bench)(params, say)
    report.params = relevant(bench, report.params)
    return report


async def hold(wanted: Mapping[str, Any], only: tuple[str, ...], path: Path, say: Say) -> Results:
    """Run everything (or ``only`` these runs), each kept in the file at once; ``wanted`` overrides parameters of all.

    A failure does not end it. With ``only`` the results that are there of other runs stay.
    """
    results = Results(format_time_ns(CLOCK.now_ns()), machine(), {})
    if only:
        results.runs = Results.runs_in(path)
    for name, (bench, own) in RUNS.items():
        if only and name not in only:
            continue
        params = Params(**{**own, **wanted})
        peers = tuple(peer for peer in params.peers if installed(peer))
        for missing in sorted(set(params.peers) - set(peers)):
            say(f"{name}: {missing} is not installed and is left out")
        say(f"== {name}")
        try:
            report = await measure(bench, msgspec.structs.replace(params, peers=peers), say)
            results.runs[name] = report.to_dict()
        except Exception as error:  # noqa: BLE001 - a peer's client raises what it likes; the other runs go on
            why = error.detail if isinstance(error, FedbusError) else f"{type(error).__name__}: {error}"
            say(f"{name} failed: {why}")
            results.failures[name] = why
        results.write(path)
    return results
