"""A region in simulated time: instances that answer after a while, clients that route by a Router each.

Every instance works off one batch at a time per core it has, so that what is sent to it in excess waits; the slowed
one answers everything (heartbeats too, if ``trips``) later by ``delay_ms`` while it is slow.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass

from fedbus.routing.router import Router
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route

MS = 1_000_000
S = 1000 * MS
BEAT_NS = 250 * MS


@dataclass
class Setting:
    instances: int = 3
    clients: int = 2
    batches_per_s: float = 60.0  # of each client
    service_ms: float = 1.0
    delay_ms: float = 200.0
    trips: bool = True
    slow_from_s: float = 10.0
    slow_until_s: float = 30.0
    end_s: float = 70.0
    hiccups: float = 0.0  # share of the answers …
    hiccup_ms: float = 80.0  # … that take up to twice so much longer


class World:
    """Runs to the end when made; ``sent`` counts batches by (second, instance)."""

    def __init__(self, seed: int, setting: Setting) -> None:
        self.setting, self.rng = setting, random.Random(seed)
        self.names = [f"r/b{n}" for n in range(setting.instances)]
        self.slowed = self.names[0]
        routes = [InstanceRoute(name, f"tcp://h:{7000 + n}") for n, name in enumerate(self.names)]
        table = RoutingTable("f", "r", 1, [region_route("r", routes)])
        self.clients = [Router("r", random.Random(self.rng.random())) for _ in range(setting.clients)]
        self.sent: Counter[tuple[int, str]] = Counter()
        self.states: dict[tuple[int, str], str] = {}
        self.ejections: list[tuple[float, int, str, str]] = []  # (s, client, instance, state): every change
        self.free_ns = dict.fromkeys(self.names, 0)
        self.flights = {(c, name): {} for c in range(setting.clients) for name in self.names}
        self._numbers = itertools.count()
        self._events: list[tuple[int, int, object]] = []
        self.now_ns = 0
        for number, client in enumerate(self.clients):
            client.adopt(table)
            self.later(self.rng.random() * BEAT_NS, self.beat, number)
            self.later(0, self.arrive, number)
        while self._events:
            self.now_ns, _, (what, args) = heapq.heappop(self._events)
            if self.now_ns > setting.end_s * S:
                break
            what(*args)

    def later(self, delay_ns: float, what, *args) -> None:
        heapq.heappush(self._events, (self.now_ns + int(delay_ns), next(self._numbers), (what, args)))

    def delay_ns(self, name: str) -> float:
        slow = self.setting.slow_from_s * S <= self.now_ns < self.setting.slow_until_s * S
        jitter = self.rng.expovariate(1 / 0.3) * MS
        if self.setting.hiccups and self.rng.random() < self.setting.hiccups:
            jitter += 2 * self.rng.random() * self.setting.hiccup_ms * MS
        return jitter + (self.setting.delay_ms * MS if slow and name == self.slowed else 0)

    def arrive(self, number: int) -> None:
        client = self.clients[number]
        name = client.pick().instance
        self.sent[self.now_ns // S, name] += 1
        client.sent(name)
        batch = next(self._numbers)
        self.flights[number, name][batch] = self.now_ns
        self.free_ns[name] = max(self.free_ns[name], self.now_ns) + int(self.setting.service_ms * MS)
        self.later(self.free_ns[name] - self.now_ns + self.delay_ns(name), self.answer, number, name, batch)
        self.later(self.rng.expovariate(self.setting.batches_per_s) * S, self.arrive, number)

    def answer(self, number: int, name: str, batch: int) -> None:
        sent_ns = self.flights[number, name].pop(batch)
        self.clients[number].answered(name)
        self.clients[number].stored(name, (self.now_ns - sent_ns) / MS, self.now_ns)
        self.note(number)

    def note(self, number: int) -> None:
        for name in self.names:
            state = self.clients[number].standing(name).ejection.state
            if state != self.states.get((number, name), "in"):
                self.states[number, name] = state
                self.ejections.append((self.now_ns / S, number, name, state))

    def beat(self, number: int) -> None:
        client = self.clients[number]
        for name in self.names:
            oldest = next(iter(self.flights[number, name].values()), None)
            if oldest is not None:
                client.waiting(name, (self.now_ns - oldest) / MS, self.now_ns)
            trip = self.delay_ns(name) if self.setting.trips else self.rng.expovariate(1 / 0.3) * MS
            self.later(trip, self.pong, number, name, trip / MS)
        client.beat(self.now_ns)
        self.note(number)
        self.later(BEAT_NS, self.beat, number)

    def pong(self, number: int, name: str, trip_ms: float) -> None:
        self.clients[number].observe(name, trip_ms, self.now_ns)

    def share(self, begin_s: int, end_s: int, name: str | None = None) -> float:
        """Share of the batches sent in these seconds that went to the instance (default: the slowed one)."""
        whole = sum(count for (s, _), count in self.sent.items() if begin_s <= s < end_s)
        part = sum(self.sent[s, name or self.slowed] for s in range(begin_s, end_s))
        return part / whole
