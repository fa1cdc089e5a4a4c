"""A trial: clients in a mesh whose every step is recorded, faults of the network and of regions, and the verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from fedbus.topic import FilterSet
from fedbus_loadtests.chaos.client_spec import PublisherSpec, ReaderSpec
from fedbus_loadtests.chaos.clients import Client
from fedbus_loadtests.chaos.disks import record_forwarded
from fedbus_loadtests.chaos.follower import Follower
from fedbus_loadtests.chaos.history import read_histories
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.verdict import Verdict, judge
from tests.federation.waiting import until
from tests.mesh.groups import wait_followed
from tests.mesh.happenings import Happenings
from tests.mesh.histories import Histories, now_ns
from tests.mesh.mesh import FEDERATION, Mesh, Region
from tests.mesh.namespaces import Host

FLOW_S, ARRIVE_S, DRAIN_S = 60.0, 120.0, 120.0
SHARE_S = 2.0  # acknowledgements are shared twice a second; this is how long the machine may dawdle
MEET_S = 8.0  # the same after a cut: connections are made anew, and catch up
RATE_EPS = 40.0
LOOK_S = 0.4


class Trial:
    """Clients of one test; its topics begin with ``name``, so that it can share the mesh with others."""

    def __init__(self, mesh: Mesh, name: str, folder: Path, say: Callable[[str], None] = print) -> None:
        self.mesh = mesh
        self.name = name
        self.seed = int(os.environ.get("FEDBUS_CHAOS_SEED") or Random(os.urandom(8)).randrange(1_000_000))
        self.promise = Promise(
            replicas=2, synchronous=(f"{name}.sync.>",), share_s=SHARE_S, meet_s=MEET_S, settle_s=0.0,
            least_published=50, least_delivered=50,
        )  # fmt: skip
        self._folder = folder
        self._told = say
        say(f"FEDBUS_CHAOS_SEED={self.seed}")
        self.happenings = Happenings(name, folder, self.promise, say)
        self.histories = Histories(folder)
        self._follower = Follower(folder, self.promise)
        self.clients: dict[str, Client] = {}

    # -- clients -------------------------------------------------------------------------------------------------------

    def publisher(
        self,
        region: Region,
        *topics: str,
        host: Host | None = None,
        urls: Sequence[Region] = (),
        **options: Any,
    ) -> Client:
        """Publishes to topics of the trial from a machine (default: the region's), at this region or others."""
        spec = PublisherSpec(
            f"{self.name}.{region.host.name}.{len(self.clients)}", topics=tuple(f"{self.name}.{t}" for t in topics),
            seed=self.seed, **({"rate_eps": RATE_EPS} | options),
        )  # fmt: skip
        return self._client(f"pub-{region.host.name}", urls or [region], host, publishers=[spec])

    def reader(
        self, group: str, regions: Sequence[Region], *filters: str, host: Host | None = None, **options: Any
    ) -> Client:
        """Reads at the first of these regions that answers; a group of the trial begins at the first."""
        live = options.get("live", False)
        spec = ReaderSpec(
            f"{self.name}-{group}", tuple(f"{self.name}.{pattern}" for pattern in filters),
            **({"start": "latest" if live else "earliest", "home": "" if live else regions[0].name} | options),
        )  # fmt: skip
        return self._client(f"sub-{group}", regions, host, readers=[spec])

    def _client(self, name: str, regions: Sequence[Region], host: Host | None, **specs: Any) -> Client:
        name = f"{name}-{len(self.clients)}"
        within = (host or regions[0].host).command()
        client = Client(
            name, self._folder, [region.url for region in regions], within=within,
            region=regions[0].name if len(regions) == 1 else "", **specs,
        )  # fmt: skip
        self.clients[name] = client
        client.start()
        return client

    def wait_subscribed(self) -> None:
        """Wait until every reader has its subscription."""
        wanted = {name for client in self.clients.values() for name in client.subscriptions}

        def stands() -> bool:
            self._follower.read()
            return wanted <= self._follower.subscribed

        self.until(stands, FLOW_S, "all subscriptions stand")

    def wait_published(self, more: int = 50) -> None:
        """Wait until so many more events were acknowledged."""
        self._follower.read()
        goal = self._follower.acknowledged + more

        def flows() -> bool:
            self._follower.read()
            return self._follower.acknowledged >= goal

        self.until(flows, FLOW_S, f"{more} more events are acknowledged")

    def until(
        self,
        holds: Callable[[], object],
        timeout_s: float,
        what: str,
        explain: Callable[[], object] = lambda: "",
    ) -> None:
        """Wait for something that shows in the histories; not too eagerly: looking costs time of the machine."""
        until(holds, timeout_s, what, lambda: f"{explain()}\n{self.logs()}", pause_s=LOOK_S)

    def wait_arrived(self, timeout_s: float = ARRIVE_S) -> int:
        """Wait until what is acknowledged by now has arrived wherever it is due; the time of that "now"."""
        until_ns = now_ns()
        self.until(
            lambda: not self._follower.missing(until_ns), timeout_s, "everything acknowledged so far has arrived",
            lambda: f"{self._follower.missing(until_ns)} deliveries are due",
        )  # fmt: skip
        return until_ns

    def wait_followed(self) -> None:
        """Wait until standbys follow every group of the trial closely: a fault is due."""
        groups = {name for client in self.clients.values() for name in client.subscriptions}
        wait_followed(groups, self.mesh.regions.values(), SHARE_S / 2)

    def logs(self) -> str:
        """What the clients said on their way."""
        said = {path.name: path.read_text(errors="replace")[-800:] for path in sorted(self._folder.glob("*.log"))}
        return "\n".join(f"{name}: {text}" for name, text in said.items() if text)

    # -- the end -------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Publish no more, and wait until all that is due has arrived (or will not: see the verdict)."""
        for client in self.clients.values():
            if client.publishes:
                client.end()
        for client in self.clients.values():
            client.hurry()
        try:
            self.wait_arrived(DRAIN_S)
        except AssertionError:
            self._told(f"{self._follower.missing()} deliveries are due; {self.logs()}")

    def verdict(self) -> Verdict:
        """End all clients in order, and judge what was recorded, and what lies on the disks."""
        self.drain()
        self.end()
        topics = FilterSet([f"{self.name}.>"])
        for region in self.mesh.regions.values():
            directories = sorted((region.data / FEDERATION / region.name / "instances").iterdir())
            record_forwarded(directories, region.name, topics, self.happenings.recorder)
        verdict = judge(read_histories([self._folder]))
        self._told(verdict.text())
        return verdict

    def verdict_until(self, acked_ns: int) -> Verdict:
        """Judge while clients go on: whatever is acknowledged later is as good as not answered yet."""
        late = [
            e for e in self.histories.entries() if e.operation == "publish" and e.kind == "ok" and e.time_ns > acked_ns
        ]
        dropped = {(entry.process, entry.id) for entry in late}
        history = self.histories.entries()
        verdict = judge(e for e in history if e.kind != "ok" or (e.process, e.id) not in dropped)
        self._told(verdict.text())
        return verdict

    def end(self) -> None:
        """End all clients."""
        for client in self.clients.values():
            client.end()

    def close(self) -> None:
        """End everything, whatever became of it."""
        self.end()
        self.happenings.recorder.close()
