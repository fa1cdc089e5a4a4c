"""A contest: the systems' rounds interleaved in one session, after a small scan of each client's tuning.

In every round each system has its turn in the same order, so that a machine whose speed drifts is the same for all.
How many events a system gets is set so that its rounds take about as long as everybody's.
"""

from __future__ import annotations

import gc
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence

from fedbus.errors import FedbusError
from fedbus_loadtests.bench.system import Load, Sample, System

SCAN_SHARE = 8  # a scan takes this fraction of a round
FIRST_GUESS = 1000  # events of the first look at a system
QUANTUM = 100
MAX_EVENTS = 4_000_000

Run = Callable[[System, Load], Awaitable[Sample]]
Say = Callable[[str], None]


class Contest:
    """``run`` runs one load on one system: that of ``shape``, with as many events as it takes, but ``most``."""

    def __init__(
        self, verb: str, systems: Sequence[System], run: Run, shape: Load, say: Say, *, most: int = MAX_EVENTS
    ) -> None:
        self.samples: dict[str, list[Sample]] = {system.name: [] for system in systems}
        self.load_average = 0.0
        self._verb = verb
        self._systems = systems
        self._run = run
        self._shape = shape
        self._say = say
        self._most = most
        self._numbers = 0
        self._name = secrets.token_hex(4)  # groups and consumers of two contests never meet

    async def hold(self, rounds: int, events: int | None, round_s: float) -> None:
        """Scan, then all rounds; with ``events`` everybody gets so many, else what takes ``round_s`` seconds."""
        self.load_average = os.getloadavg()[0]
        sizes = {system.name: events or await self._size(system, round_s) for system in self._systems}
        for system in self._systems:
            await self._scan(system, max(FIRST_GUESS, sizes[system.name] // SCAN_SHARE))
            if not events:
                sizes[system.name] = await self._size(system, round_s)
        for number in range(rounds):
            for system in self._systems:
                sample = await self._turn(system, sizes[system.name])
                self.samples[system.name].append(sample)
                self._say(
                    f"{self._verb} round {number + 1}/{rounds}: {system.name} {sample.events_per_s:,.0f} events/s "
                    f"({sample.events:,} events, {sample.seconds:.2f} s)"
                )

    async def _size(self, system: System, round_s: float) -> int:
        """Events that take about ``round_s`` seconds, found in two steps."""
        events = FIRST_GUESS
        for _ in range(2):
            rate = (await self._turn(system, events)).events_per_s
            events = max(QUANTUM, min(self._most, int(rate * round_s / 2) // QUANTUM * QUANTUM))
        return min(self._most, events * 2)

    async def _scan(self, system: System, events: int) -> None:
        rates = []
        for choice in (choices := system.choices.get(self._verb, ())):
            system.tuning = choice
            rates.append((await self._turn(system, events)).events_per_s)
        if rates:
            system.tuning = choices[rates.index(max(rates))]
            tried = ", ".join(f"{dict(c)} {rate:,.0f}/s" for c, rate in zip(choices, rates, strict=True))
            self._say(f"{self._verb} scan: {system.name}: {tried}")

    async def _turn(self, system: System, events: int) -> Sample:
        self._numbers += 1
        load = Load(events, self._shape.payloads, self._shape.topics, f"{self._name}-{self._numbers}")
        gc.collect()
        try:
            return await self._run(system, load)
        except FedbusError as error:
            error.detail = f"{self._verb} on {system.name}: {error.detail}"
            raise
