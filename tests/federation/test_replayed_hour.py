"""The engine drives a live region: an hour of a trace at speed, real instances, capacity there before the load."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fedbus.clock import NS_PER_S
from fedbus.control.load_model import MINUTE_NS, LoadModel
from fedbus.storage.store import CapacityStep
from fedbus_loadtests.ports import free_blocks, free_port
from tests.federation.replayed_hour import (
    HOUR_NS,
    REGION,
    SLOT_S,
    SPEED,
    START_NS,
    capacity_eps,
    load_model,
    open_store,
)

pytestmark = pytest.mark.ray

SEED = 5
LIMIT_S = 400
ROOT = Path(__file__).parents[2]


def replayed(directory: Path) -> None:
    """Let the hour pass, in a process of its own."""
    arguments = [str(directory), str(SEED), str(free_port()), str(free_blocks(1, 20, 4))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.federation.replayed_hour", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def in_service(steps: list[CapacityStep], time_ns: int) -> float:
    """Events/s that what served then holds."""
    return next((step.capacity_eps for step in reversed(steps) if step.time_ns <= time_ns), 0.0)


def short_minutes(model: LoadModel, steps: list[CapacityStep], first_ns: int) -> dict[int, tuple[float, float]]:
    """Minutes of the hour, from when the region serves, in which the trace's load is above what is in service."""
    found = {}
    for minute in range(-(-(first_ns - START_NS) // MINUTE_NS), 60):
        load_eps = model.events(START_NS // MINUTE_NS + minute) / 60
        capacity = in_service(steps, START_NS + minute * MINUTE_NS)
        if load_eps > capacity:
            found[minute] = load_eps, capacity
    return found


def test_capacity_is_in_service_before_the_load_of_a_ramp_by_forecast(tmp_path: Path) -> None:
    replayed(tmp_path)
    model, one_eps = load_model(SEED), capacity_eps(load_model(SEED))
    with closing(open_store(tmp_path)) as store:
        directives = store.directives.recent(REGION, 50)
        measured = store.load_history.slots(REGION, SLOT_S, START_NS, START_NS + HOUR_NS)
        steps = store.capacity_steps.between(REGION, START_NS, START_NS + 2 * HOUR_NS)
        resources = store.resource_metrics.between(f"region/{REGION}", SLOT_S, START_NS, START_NS + HOUR_NS)
    told = "\n".join(f"{(d.ordered_at_ns - START_NS) // MINUTE_NS} min {d.cause}: {d.reason}" for d in directives)

    # What was measured is what the trace says. It begins within one instance and ends above it.
    assert len(measured) >= HOUR_NS // (SLOT_S * NS_PER_S) - 2, told
    for slot in measured:
        minutes = range(slot.time_ns // MINUTE_NS, slot.time_ns // MINUTE_NS + SLOT_S // 60)
        assert slot.events == pytest.approx(sum(map(model.events, minutes)), rel=0.25), f"{SPEED} × as fast"
    first = next(step for step in steps if step.instances)
    assert first.capacity_eps == pytest.approx(one_eps), told
    assert measured[-1].rate_eps > one_eps

    # What holds the rest was ordered by the forecast, and served before the load was there, minute by minute.
    creates = [d for d in reversed(directives) if d.action == "create" and d.ordered_at_ns > first.time_ns]
    assert creates, told
    assert {d.cause for d in creates} == {"forecast"}, told
    assert short_minutes(model, steps, first.time_ns) == {}, told
    assert all(slot.rate_eps <= in_service(steps, slot.time_ns) for slot in measured), told
    assert resources
    assert all(slot.cpu_share > 0 for slot in resources)
