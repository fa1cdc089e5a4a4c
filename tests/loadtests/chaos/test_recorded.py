"""The checker on a recorded run: the real thing passes, and every mutation of it is noticed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from fedbus_loadtests.chaos.entry import Entry
from fedbus_loadtests.chaos.fault_run import FaultRun, Plan
from fedbus_loadtests.chaos.history import read_histories
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.verdict import judge
from tests.loadtests.chaos.mutations import MUTATIONS

# Nobody keeps a second copy in such a run, closes ledgers, or damages them.
NO_PLACE = {"a_copy_that_lacks_an_event", "a_report_that_is_missing"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """A few seconds of a real region, with an instance killed and one client."""
    folder: Path = tmp_path_factory.mktemp("run")
    verdict = FaultRun(Plan(1, ("kill", "client"), 3, rate_eps=60), folder, Promise(least_published=200)).run()
    assert verdict.ok, verdict.text()
    return list(read_histories([folder]))


@pytest.mark.parametrize(("invariant", "mutation"), [pytest.param(i, m, id=m.__name__) for i, m in MUTATIONS])
def test_a_mutated_recording_trips_its_invariant(recorded, invariant, mutation):
    broken = mutation(recorded, Random(1))
    if mutation.__name__ in NO_PLACE:
        assert broken is None
        return
    assert broken is not None
    assert invariant in judge(broken).violations
