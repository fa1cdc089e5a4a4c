"""The nemesis: a schedule of faults that follows from a seed, one after the other with time to recover between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from threading import Event

import msgspec

from fedbus.clock import NS_PER_S, Clock
from fedbus_loadtests.chaos.faults import LASTING_S, Faults
from fedbus_loadtests.chaos.recorder import Recorder

TEND_S = 0.05
PAUSE_S = (0.5, 2.5)  # between two faults


class Blow(msgspec.Struct, frozen=True):
    """One fault: which, how long, and how long nothing happens afterwards."""

    kind: str
    lasting_s: float
    pause_s: float


def schedule(kinds: Sequence[str], seconds: float, random: Random, longest_s: float = 60.0) -> list[Blow]:
    """Every kind once, in any order, then some more until ``seconds`` are full; none lasts over ``longest_s``."""
    blows: list[Blow] = []
    left_s, waiting = seconds, random.sample(list(kinds), len(kinds))
    while waiting or left_s > 0:
        kind = waiting.pop() if waiting else random.choice(list(kinds))
        blow = Blow(kind, min(random.uniform(*LASTING_S[kind]), longest_s), random.uniform(*PAUSE_S))
        blows.append(blow)
        left_s -= blow.lasting_s + blow.pause_s
    return blows


class Nemesis:
    """Carries a schedule out. ``tend`` is called all the time: it starts what has died."""

    def __init__(self, faults: Faults, recorder: Recorder, clock: Clock, tend: Callable[[], None]) -> None:
        self._faults = faults
        self._recorder = recorder
        self._clock = clock
        self._tend = tend
        self._never = Event()

    def rage(self, blows: Sequence[Blow], told: Callable[[Blow], None] = lambda _: None) -> None:
        """Strike, wait, heal, wait."""
        for blow in blows:
            told(blow)
            heal = self._faults.strike(blow.kind)
            self._wait(blow.lasting_s, tending=False)
            heal()
            self._recorder.write("info", "heal", fault=blow.kind)
            self._wait(blow.pause_s, tending=True)

    def _wait(self, seconds: float, *, tending: bool) -> None:
        end_ns = self._clock.monotonic_ns() + int(seconds * NS_PER_S)
        while (left_ns := end_ns - self._clock.monotonic_ns()) > 0:
            if tending:
                self._tend()
            self._never.wait(min(left_ns / NS_PER_S, TEND_S))
