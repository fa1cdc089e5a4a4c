"""Fault runs for tests: minutes of ``make chaos`` in seconds, every one of them judged."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from fedbus_loadtests.chaos.campaign import SETTLE_S
from fedbus_loadtests.chaos.fault_run import FaultRun, Plan
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.verdict import Verdict


@pytest.fixture
def seed() -> int:
    """Another one every time, printed; ``FEDBUS_CHAOS_SEED`` repeats one."""
    chosen = int(os.environ.get("FEDBUS_CHAOS_SEED") or Random(os.urandom(8)).randrange(1_000_000))
    print(f"FEDBUS_CHAOS_SEED={chosen}")
    return chosen


@pytest.fixture
def fault_run(tmp_path: Path, seed: int):
    """Runs these faults, each at least once, and returns the verdict; what it did is printed."""

    def run(*faults: str, seconds: float, longest_s: float = 3.0, **options) -> Verdict:
        plan = Plan(seed, faults, seconds, longest_s=longest_s, **options)
        promise = Promise(replicas=plan.replicas, settle_s=SETTLE_S, least_published=500, least_faults=len(faults))
        verdict = FaultRun(plan, tmp_path, promise, print).run()
        print(verdict.text())
        return verdict

    return run
