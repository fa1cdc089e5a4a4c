"""A campaign: fault runs one after the other until the time is over, every one judged, with a directory of results."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from fedbus.clock import NS_PER_S, Clock
from fedbus_loadtests.chaos.fault_run import FaultRun, Plan
from fedbus_loadtests.chaos.history import HISTORY, PACKED, read_histories
from fedbus_loadtests.chaos.picture import draw, timeline
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.verdict import Verdict

SETTLE_S = 15.0
LEAST_RUN_S, MOST_RUN_S = 15.0, 40.0


class Campaign:
    """Runs in ``folder``, one directory each. ``told`` hears lines for people."""

    def __init__(self, folder: Path, plan: Plan, clock: Clock, told: Callable[[str], None]) -> None:
        self._folder = folder
        self._plan = plan
        self._clock = clock
        self._told = told

    def run(self, seconds: float) -> Sequence[tuple[Plan, Verdict]]:
        """At least one run; a run is not begun that would end long after ``seconds``."""
        end_ns = self._clock.monotonic_ns() + int(seconds * NS_PER_S)
        done: list[tuple[Plan, Verdict]] = []
        while not done or self._left_s(end_ns) > LEAST_RUN_S:
            faulty_s = max(5.0, min(MOST_RUN_S, self._left_s(end_ns) - 10))
            plan = msgspec.structs.replace(self._plan, seed=self._plan.seed + len(done), seconds=faulty_s)
            verdict = self._one(plan)
            done.append((plan, verdict))
            self._told(f"{verdict.text()}\n{max(0.0, self._left_s(end_ns)) / 60:.0f} min left")
        return done

    def _left_s(self, end_ns: int) -> float:
        return (end_ns - self._clock.monotonic_ns()) / NS_PER_S

    def _one(self, plan: Plan) -> Verdict:
        """What was good leaves its histories and a picture; of what was not everything is kept."""
        folder = self._folder / f"seed-{plan.seed}"
        folder.mkdir(parents=True)
        promise = Promise(replicas=plan.replicas, settle_s=SETTLE_S, least_faults=len(plan.faults))
        verdict = FaultRun(plan, folder, promise, self._told).run()
        (folder / "verdict.txt").write_text(verdict.text() + "\n")
        title = f"seed {plan.seed}, R = {plan.replicas}: {'every invariant held' if verdict.ok else 'VIOLATED'}"
        draw(timeline(read_histories([folder])), title, folder / "timeline.svg")
        if verdict.ok:
            for path in list(folder.iterdir()):
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.suffix == HISTORY:
                    path.with_suffix(PACKED).write_bytes(gzip.compress(path.read_bytes(), 1))
                    path.unlink()
        return verdict
