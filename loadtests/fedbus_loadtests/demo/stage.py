"""The stage: brings a demonstration's federation up, lets the play run, takes all down, adds up what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedbus.clock import NS_PER_S, SystemClock
from fedbus.control.sla import required_quantile
from fedbus.storage.data_directory import RegionDirectory
from fedbus.storage.store import Store
from fedbus_loadtests.demo.accuracy import Accuracy, forecast_accuracy
from fedbus_loadtests.demo.audit import Audit
from fedbus_loadtests.demo.clock import DemoClock
from fedbus_loadtests.demo.federation import backfill, demo_options
from fedbus_loadtests.demo.narration import Narrator
from fedbus_loadtests.demo.scenario import SITES, Scenario, groups
from fedbus_loadtests.demo.story import Order, Story, applied_by_cause
from fedbus_loadtests.demo.summary import Failover, ScaleOut, Summary

if TYPE_CHECKING:
    from fedbus_actors.federation import Federation
    from fedbus_loadtests.demo.play import Play

CLOCK_FILE = "clock"
_FAILOVER_WATCHED_S = 10.0
_STEP = re.compile(r"(?P<name>[^:]+): (?P<seconds>[0-9.]+) s")


class Stage:
    """One demonstration, in ``data``. ``before_s``: how long the command ran before this was made."""

    def __init__(
        self, scenario: Scenario, narrator: Narrator, data: Path, *, port: int, instance_port: int, seed: int,
        before_s: float,
    ) -> None:  # fmt: skip
        self._scenario, self._narrator, self._data, self._seed = scenario, narrator, data, seed
        self._real = SystemClock()
        self._began_ns = self._real.monotonic_ns() - round(before_s * NS_PER_S)
        self._options = demo_options(scenario, data, port, instance_port)
        self._start_s = {"command": round(before_s, 1)}
        self._audit = Audit(groups())

    def run(self) -> Summary:
        """Everything; raises what keeps the federation from starting."""
        scenario = self._scenario
        hours = (scenario.window.end_ns - scenario.window.start_ns) / (3600 * NS_PER_S)
        self._narrator.say(
            f"{scenario.title}: {hours:.1f} hours in {scenario.replay_s:.0f} s; an instance is declared to hold "
            f"{scenario.capacity_eps:g} events/s of that clock ({scenario.capacity_eps * scenario.speed:.0f} real ones)"
        )
        with self._timed("history"):
            backfill(self._options, scenario)
        with self._timed("imports"):
            from fedbus_actors.launch import launch

            clock = DemoClock(self._data / CLOCK_FILE, scenario.window.start_ns, scenario.speed)
            federation = launch(self._options, clock=clock, progress=self._progress)
        federation.start()
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                play, troubles = runner.run(self._play(federation, clock))
        finally:
            self._narrator.say("stopping")
            federation.stop()
        return self._summary(play, troubles)

    async def _play(self, federation: Federation, clock: DemoClock) -> tuple[Play, list[str]]:
        # These import Ray, whose environment is prepared by launch.
        from fedbus_loadtests.demo.control_plane import ControlPlane
        from fedbus_loadtests.demo.play import Play
        from fedbus_loadtests.demo.replay import Replay

        plane = ControlPlane(self._options.name, self._options.regions)
        async with Replay(federation.url, self._scenario, clock, self._audit, self._seed) as replay:
            self._narrator.say(f"publishing into {len(plane.states)} regions; dashboard: {federation.url}/")
            play = Play(self._scenario, clock, plane, replay, self._audit, self._narrator, federation.url)
            await play.run()
            return play, replay.troubles

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began_ns = self._real.monotonic_ns()
        yield
        self._start_s[name] = round((self._real.monotonic_ns() - began_ns) / NS_PER_S, 1)

    def _progress(self, line: str) -> None:
        found = _STEP.fullmatch(line)
        if found is not None:
            self._start_s[found["name"]] = float(found["seconds"])
        self._narrator.say(line)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _summary(self, play: Play, troubles: list[str]) -> Summary:
        audit, story, scenario = self._audit, play.story, self._scenario
        ahead, first, drained = story.scaled_ahead, story.first_scale_out, story.scaled_in
        flowing_ns = audit.first_ack_ns
        return Summary(
            load=scenario.title, speed=round(scenario.speed, 1), scale=scenario.scale,
            capacity_eps=scenario.capacity_eps,
            published=audit.published, acknowledged=audit.acknowledged, unknown=audit.published - audit.acknowledged,
            groups=audit.groups(), delivered=audit.delivered_total, lost=audit.missing, duplicates=audit.duplicates,
            publish=audit.publish_latency(), delivery=audit.delivery_latency(),
            forecast=self._accuracy(play.replayed_from_ns),
            first_scale_out=self._scale_out(first), scaled_ahead=self._scale_out(ahead),
            scaled_in=f"{drained.region}: {drained.reason}" if drained is not None else None,
            directives=applied_by_cause(story.orders.values()), failover=self._failover(story),
            start_s=self._start_s,
            flowing_after_s=round((flowing_ns - self._began_ns) / NS_PER_S, 1) if flowing_ns is not None else None,
            replay_s=round(play.replay_s, 1), troubles=troubles,
        )  # fmt: skip

    def _scale_out(self, order: Order | None) -> ScaleOut | None:
        if order is None:
            return None
        served_ns = order.finished_ns if order.state == "done" else None
        if served_ns is None:
            return ScaleOut(order.region, order.cause, order.reason, None)
        before_peak_s = (self._scenario.window.peak_ns - served_ns) / NS_PER_S / self._scenario.speed
        return ScaleOut(order.region, order.cause, order.reason, round(before_peak_s, 1))

    def _failover(self, story: Story) -> Failover | None:
        victim = story.victim
        if victim is None:
            return None
        watched = story.killed_ns - NS_PER_S, story.killed_ns + int(_FAILOVER_WATCHED_S * NS_PER_S)
        back_s = None if story.back_ns is None else round((story.back_ns - story.killed_ns) / NS_PER_S, 1)
        return Failover(
            victim.region, victim.instance, victim.siblings,
            _rounded(self._audit.first_ack_after_ms(victim.region, story.killed_ns)),
            _rounded(self._audit.longest_wait_ms(victim.region, *watched)), back_s,
        )  # fmt: skip

    def _accuracy(self, from_ns: int) -> Accuracy | None:
        """From the stores, which are ours again now that the managers are gone."""
        options, found = self._options, []
        for site in SITES:
            directory = RegionDirectory(options.data.root / options.name / site.region)
            store = Store(directory.store_path, self._real.now_ns(), options.limits)
            try:
                forecasts = store.forecasts.recent(site.region, options.limits.store_forecasts)
                history = store.load_history.between(site.region, self._scenario.step_s, 0, 2**62)
            finally:
                store.close()
            found.append((forecasts, history))
        lead_ns, announced = options.forecasting.lead_ms * 1_000_000, self._scenario.triggers
        return forecast_accuracy(found, from_ns, lead_ns, required_quantile([]), announced)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
