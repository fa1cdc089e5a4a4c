"""The checker passes every good history and trips over every broken one."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.verdict import judge
from tests.loadtests.chaos.model import ModelledBus
from tests.loadtests.chaos.mutations import MUTATIONS

SEEDS = st.integers(0, 2**32)
INVARIANTS = {"V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8", "V10", "V12", "too few"}


@given(SEEDS, st.integers(150, 600))
@settings(max_examples=60)
def test_a_good_history_passes(seed: int, steps: int):
    verdict = judge(ModelledBus(seed).run(steps))
    assert verdict.ok, verdict.text()
    assert verdict.acknowledged > 20


@pytest.mark.parametrize(("invariant", "mutation"), [pytest.param(i, m, id=m.__name__) for i, m in MUTATIONS])
@given(seed=SEEDS)
@settings(max_examples=15)
def test_a_broken_history_trips_its_invariant(invariant, mutation, seed: int):
    history = ModelledBus(seed).run(400)
    broken = mutation(history, Random(seed))
    if broken is not None:
        verdict = judge(broken)
        assert invariant in verdict.violations, f"{mutation.__name__} went unnoticed: {verdict.text()}"


@pytest.mark.parametrize(("invariant", "mutation"), [pytest.param(i, m, id=m.__name__) for i, m in MUTATIONS])
def test_each_mutation_finds_a_place_in_most_histories(invariant, mutation):
    broken = [mutation(ModelledBus(seed).run(400), Random(seed)) for seed in range(10)]
    assert sum(history is not None for history in broken) >= 6


def test_every_invariant_has_a_mutation():
    assert {invariant for invariant, _ in MUTATIONS} == INVARIANTS


def test_a_violation_is_explained_with_the_entries_that_show_it():
    history = ModelledBus(7).run(400)
    lost = next(e for e in history if e.operation == "deliver" and e.subscription == "all" and e.delivery == 1)
    broken = [e for e in history if not (e.operation == "deliver" and e.subscription == "all" and e.id == lost.id)]
    verdict = judge(broken)
    assert verdict.violations == {"V1": 1}
    assert f"{lost.id} was acknowledged at" in verdict.text()
    assert "never reached all" in verdict.text()
    assert '"kind":"invoke"' in verdict.text()


def test_with_one_copy_what_was_on_a_lost_disk_may_be_missing_and_with_two_it_may_not():
    history = ModelledBus(7).run(400)
    lost = next(e for e in history if e.operation == "deliver" and e.subscription == "all")
    missing = [e for e in history if not (e.operation == "deliver" and e.ledger == lost.ledger)]
    disk_gone = lost.__class__(
        time_ns=history[-1].time_ns, process="run", kind="info", operation="lose", position=lost.ledger, target="b1"
    )
    few = {"least_published": 20, "least_delivered": 20}
    assert "V1" in judge([*missing, disk_gone], Promise(replicas=2, **few)).violations
    assert judge([*missing, disk_gone], Promise(replicas=1, **few)).ok
