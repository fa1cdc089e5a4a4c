"""The health monitor over real sockets, on a clock that the test moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedbus.clock import ManualClock
from fedbus.control.health import HealthSettings, InstanceHealth
from fedbus_actors.health_monitor import HealthMonitor, Target
from tests.client.instances import Instances
from tests.client.waiting import until


class Watched:
    """Two instances and their monitor."""

    def __init__(self, folder: Path) -> None:
        self.instances = Instances(folder)
        self.clock = ManualClock()
        self.monitor = HealthMonitor("r", HealthSettings(), 10**6, self.clock)
        self.endpoints = {name: self.instances.start(name) for name in ("b1", "b2")}
        self.watch()

    def watch(self) -> dict[str, InstanceHealth]:
        """The present judgement."""
        targets = [
            Target(name, endpoint, "alive", InstanceHealth("starting", 0)) for name, endpoint in self.endpoints.items()
        ]
        return {name: vital.health for name, vital in self.monitor.watch(targets).items()}

    def states(self) -> list[str]:
        """By name."""
        return [health.state for _, health in sorted(self.watch().items())]

    def step(self, seconds: float = 0.25) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    async def until(self, states: list[str]) -> None:
        """Let time pass until they are in these states."""

        def there() -> bool:
            self.step()
            return self.states() == states

        await until(there)


@pytest.fixture
def watched(tmp_path):
    made = Watched(tmp_path)
    yield made
    made.monitor.close()
    made.instances.stop_all()


async def test_who_answers_is_healthy_and_who_falls_silent_is_unreachable(watched):
    await watched.until(["healthy", "healthy"])
    watched.instances.stop("b1")
    await watched.until(["unreachable", "healthy"])
    watched.instances.start("b1")
    await watched.until(["healthy", "healthy"])


async def test_a_monitor_that_was_stopped_suspects_nobody(watched):
    await watched.until(["healthy", "healthy"])
    seen = set()
    watched.step(600.0)

    def look() -> bool:
        seen.update(watched.states())
        watched.step(0.05)
        return len(watched.monitor._probes) == 2 and watched.clock.monotonic_ns() > 603 * 10**9

    await until(look)
    assert seen == {"healthy"}
    assert all(vital.round_trip_ms < 10_000 for vital in watched.monitor.watch([]).values())


async def test_an_instance_is_not_older_because_the_wall_clock_was_set(watched):
    await watched.until(["healthy", "healthy"])
    before = watched.watch()["b1"].since_ns
    watched.clock.wall_ns += 86_400 * 10**9

    def moved() -> bool:
        watched.step(0.05)
        return watched.watch()["b1"].since_ns >= before + 86_000 * 10**9

    await until(moved)
    assert watched.states() == ["healthy", "healthy"]
