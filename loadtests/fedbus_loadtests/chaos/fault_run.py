"""One fault run: a region, its clients, the nemesis, then peace until everything has arrived, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from threading import Event
from typing import Literal

import msgspec

from fedbus.broker.group_spec import DEAD_LETTERS
from fedbus.clock import NS_PER_S, SystemClock
from fedbus.errors import UnavailableError
from fedbus_loadtests.chaos.client_spec import PublisherSpec, ReaderSpec
from fedbus_loadtests.chaos.clients import Client
from fedbus_loadtests.chaos.disks import record_disk
from fedbus_loadtests.chaos.faults import Faults
from fedbus_loadtests.chaos.follower import Follower
from fedbus_loadtests.chaos.history import read_histories
from fedbus_loadtests.chaos.nemesis import Blow, Nemesis, schedule
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.recorder import Recorder
from fedbus_loadtests.chaos.region import PlainRegion, Region
from fedbus_loadtests.chaos.verdict import Verdict, judge

POISON_EVERY = 100
BEGIN_S, DRAIN_S, WARM_UP_EVENTS = 30.0, 90.0, 200
POLL_S = 0.1

Told = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True):
    """What a run is to be. Everything random in it follows from ``seed`` (what processes make of it does not)."""

    seed: int
    faults: tuple[str, ...]
    seconds: float
    instances: int = 2
    rate_eps: float = 250.0
    longest_s: float = 60.0
    replicas: Literal[1, 2] = 1


def clients_of(plan: Plan, folder: Path, urls: Sequence[str]) -> list[Client]:
    """Two publishers, one with poison; a group with members in two processes; slow, silent, picky, strict groups."""
    # Where the only copy of a ledger may go for ever, nobody can say whether it held a first try: it stays withheld.
    judged = plan.replicas > 1 or "lose" not in plan.faults
    publishers = [
        PublisherSpec(
            f"p{n}", rate_eps=plan.rate_eps, seed=plan.seed, poison_every=n * POISON_EVERY,
            idempotent=judged and n == 0,
        )
        for n in range(2)
    ]  # fmt: skip
    audit = ReaderSpec("audit")
    others = [
        ReaderSpec("slow", ("chaos.a",), "slow"),
        ReaderSpec("never", ("chaos.b",), "never"),
        ReaderSpec("picky", ("chaos.*",), "picky"),
        ReaderSpec("strict", ("chaos.*",), "strict", max_deliveries=3),
        ReaderSpec("morgue", (f"{DEAD_LETTERS}strict",)),
        ReaderSpec("stream", live=True, start="latest"),
    ]
    readers = [[audit, *others], [audit]]
    return [Client(spec.name, folder, urls, publishers=[spec]) for spec in publishers] + [
        Client(f"c{n}", folder, urls, readers=specs) for n, specs in enumerate(readers)
    ]


class FaultRun:
    """Runs a plan in ``folder``, which keeps histories and logs; ``told`` hears how it goes."""

    def __init__(self, plan: Plan, folder: Path, promise: Promise, told: Told = lambda _: None) -> None:
        self._plan = plan
        self._folder = folder
        self._promise = promise
        self._told = told
        self._clock = SystemClock()
        self._never = Event()
        self._recorder = Recorder(folder / "run.jsonl", "run")
        self._recorder.write("info", "promise", detail=promise.encode())
        self._follower = Follower(folder, promise)

    def run(self) -> Verdict:
        """Everything, and the verdict. Raises :class:`UnavailableError` if the region does not even come up."""
        random = Random(self._plan.seed)
        self._told(f"seed {self._plan.seed}: {', '.join(self._plan.faults)} for {self._plan.seconds:.0f} s")
        region = self._region()
        clients = clients_of(self._plan, self._folder, list(region.fleet.known().values()))
        try:
            self._begin(clients)
            faults = Faults(region, clients, self._recorder, random)
            blows = schedule(self._plan.faults, self._plan.seconds, random, self._plan.longest_s)
            nemesis = Nemesis(faults, self._recorder, self._clock, region.tend)
            nemesis.rage(blows, self._tell_blow)
            region.tend()
            self._drain(clients)
            region.record(self._recorder)
        finally:
            for client in clients:
                client.end()
            region.close()
        for name in region.fleet.names():
            record_disk(region.fleet.directory(name), name, self._recorder)
        self._recorder.close()
        return judge(read_histories([self._folder]))

    def _region(self) -> Region:
        if self._plan.replicas == 1:
            return PlainRegion(self._folder, self._plan.instances)
        from fedbus_loadtests.chaos.managed_region import ManagedRegion  # SQLAlchemy and all

        return ManagedRegion(self._folder, self._plan.instances)

    def _tell_blow(self, blow: Blow) -> None:
        self._told(f"  {blow.kind} for {blow.lasting_s:.1f} s")

    def _begin(self, clients: Sequence[Client]) -> None:
        """Groups stand before anything is published; faults begin when events flow."""
        readers = [client for client in clients if not client.publishes]
        for client in readers:
            client.start()
        wanted = {name for client in readers for name in client.subscriptions}
        self._until(lambda: wanted <= self._follower.subscribed, BEGIN_S, "all subscriptions stand")
        for client in clients:
            if client.publishes:
                client.start()
        self._until(lambda: self._follower.acknowledged >= WARM_UP_EVENTS, BEGIN_S, "events flow")

    def _drain(self, clients: Sequence[Client]) -> None:
        """Publish no more, settle everything, and wait until what is due has arrived (or will not: see the verdict)."""
        for client in clients:
            if client.publishes:
                client.end()
        for client in clients:
            client.hurry()
        try:
            self._until(lambda: not self._follower.missing(), DRAIN_S, "everything has arrived")
        except UnavailableError as error:
            self._told(f"  {error.detail}: {self._follower.missing()} deliveries are due")

    def _until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        end_ns = self._clock.monotonic_ns() + int(seconds * NS_PER_S)
        while True:
            self._follower.read()
            if holds():
                return
            if self._clock.monotonic_ns() > end_ns:
                raise UnavailableError(f"not within {seconds:.0f} s: {what} (logs in {self._folder})")
            self._never.wait(POLL_S)
