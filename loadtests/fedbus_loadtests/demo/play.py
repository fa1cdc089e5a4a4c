"""The play: what happens while the federation is up. It waits for forecasts, lets time run, kills one instance."""

from __future__ import annotations

import asyncio
import os
import signal

from fedbus.clock import NS_PER_S, SystemClock
from fedbus.errors import UnavailableError
from fedbus_loadtests.demo.audit import Audit
from fedbus_loadtests.demo.clock import DemoClock
from fedbus_loadtests.demo.control_plane import ControlPlane
from fedbus_loadtests.demo.narration import Narrator, Scene
from fedbus_loadtests.demo.region_state import RegionState
from fedbus_loadtests.demo.replay import Replay
from fedbus_loadtests.demo.scenario import Scenario
from fedbus_loadtests.demo.story import Story

LOOK_S = 0.5
#: How long the forecaster's first fits may take, its imports included.
FORECAST_LIMIT_S = 120.0
#: How long the story may go on after the window: drains take a moment, and load goes on as the trace says.
OVERTIME_S = 90.0
SETTLE_S = 60.0


class Play:
    """One run. ``replay`` publishes and consumes, ``plane`` shows what the managers say, ``story`` what came of it."""

    def __init__(
        self, scenario: Scenario, clock: DemoClock, plane: ControlPlane, replay: Replay, audit: Audit,
        narrator: Narrator, url: str,
    ) -> None:  # fmt: skip
        self.story = Story(scenario)
        self.replay_s = 0.0
        self.replayed_from_ns = 0
        """Simulated moment from which time ran fast."""
        self._scenario, self._clock, self._plane, self._replay = scenario, clock, plane, replay
        self._audit, self._narrator, self._url = audit, narrator, url
        self._real = SystemClock()
        self._phase = "waiting for the first forecasts, in real time"

    async def run(self) -> None:
        """From the first event to the last delivery; raises if a task of the replay failed."""
        publishing = asyncio.create_task(self._replay.run())
        await self._until_forecasts()
        self._clock.begin()
        began_ns = self._real.monotonic_ns()
        self.replayed_from_ns = self._clock.now_ns()
        self._phase = "replaying"
        await self._until_told()
        self.replay_s = (self._real.monotonic_ns() - began_ns) / NS_PER_S
        self._phase = "waiting for the last deliveries"
        self._narrator.say("no more events are published; waiting for the last deliveries")
        await self._replay.finish(SETTLE_S)
        await publishing
        missing = self._audit.missing
        lost = ", ".join(f"{group.lost} of {name}" for name, group in self._audit.groups().items() if group.lost)
        self._narrator.say(f"acknowledged events are missing: {lost}" if missing else "every event is accounted for")

    async def _until_forecasts(self) -> None:
        deadline_ns = self._real.monotonic_ns() + int(FORECAST_LIMIT_S * NS_PER_S)
        told: set[str] = set()
        while len(told) < len(self._plane.states):
            await self._plane.hurry()
            for region, state in (await self._look()).items():
                if state.has_forecast and region not in told:
                    told.add(region)
                    view = state.forecast
                    scores = ", ".join(f"{name} {score:.2f}" for name, score in sorted(view["scores"].items()))
                    self._narrator.say(f"{region}: first forecast by {view['model']} (MASE in the backtest: {scores})")
            if self._real.monotonic_ns() > deadline_ns:
                said = {region: state.forecast.get("basis", "") for region, state in self._plane.states.items()}
                raise UnavailableError(f"no forecast by a model after {FORECAST_LIMIT_S:.0f} s: {said}")
        self._narrator.say(f"forecasts stand: time runs {self._scenario.speed:.0f} × as fast from now on")

    async def _until_told(self) -> None:
        window = self._scenario.window
        overtime_ns = round(OVERTIME_S * self._scenario.speed * NS_PER_S)
        while True:
            states = await self._look()
            now_ns = self._clock.now_ns()
            self._kill_one(states, now_ns)
            if now_ns >= window.end_ns and (self.story.complete or now_ns >= window.end_ns + overtime_ns):
                return

    async def _look(self) -> dict[str, RegionState]:
        await asyncio.sleep(LOOK_S)
        states = await self._plane.look()
        for line in self.story.news(states, self._real.monotonic_ns()):
            self._narrator.say(line)
        self._narrator.show(
            Scene(
                self._phase, self._clock.now_ns(), self._scenario.speed, self._url, states, self._audit,
                self._scenario.capacity_eps,
            )
        )  # fmt: skip
        return states

    def _kill_one(self, states: dict[str, RegionState], now_ns: int) -> None:
        victim = self.story.choose_victim(states, now_ns, self._real.monotonic_ns())
        if victim is None:
            return
        os.kill(victim.pid, signal.SIGKILL)
        self.story.killed(victim, self._real.monotonic_ns())
        self._narrator.say(f"{victim.instance} (process {victim.pid}) is killed with signal 9, on purpose")
