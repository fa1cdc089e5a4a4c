"""The checker passes every good history of several regions and trips over every broken one."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedbus_loadtests.chaos.verdict import judge
from tests.loadtests.chaos.mesh_model import ModelledMesh
from tests.loadtests.chaos.mesh_mutations import MESH_MUTATIONS

SEEDS = st.integers(0, 2**32)
WHILE_GONE = {"a_synchronous_event_is_lost_with_its_region", "more_than_the_published_lag_is_lost_with_a_region"}


def history_for(mutation, seed):
    return ModelledMesh(seed, comes_back=mutation.__name__ not in WHILE_GONE).run(400)


@given(SEEDS, st.integers(150, 600), st.booleans())
@example(9536, 174, False)  # acknowledged between the loss and the word of it, less the recovery point
@settings(max_examples=60)
def test_a_good_history_of_a_mesh_passes(seed: int, steps: int, comes_back: bool):
    verdict = judge(ModelledMesh(seed, comes_back=comes_back).run(steps))
    assert verdict.ok, verdict.text()


@pytest.mark.parametrize(("invariant", "mutation"), [pytest.param(i, m, id=m.__name__) for i, m in MESH_MUTATIONS])
@given(seed=SEEDS)
@settings(max_examples=15)
def test_a_broken_history_of_a_mesh_trips_its_invariant(invariant, mutation, seed: int):
    broken = mutation(history_for(mutation, seed), Random(seed))
    if broken is not None:
        verdict = judge(broken)
        assert invariant in verdict.violations, f"{mutation.__name__} went unnoticed: {verdict.text()}"


@pytest.mark.parametrize(("invariant", "mutation"), [pytest.param(i, m, id=m.__name__) for i, m in MESH_MUTATIONS])
def test_each_mutation_of_a_mesh_finds_a_place_in_most_histories(invariant, mutation):
    broken = [mutation(history_for(mutation, seed), Random(seed)) for seed in range(10)]
    assert sum(history is not None for history in broken) >= 6


def test_a_region_that_is_gone_may_miss_what_it_had_not_passed_on_and_nothing_when_it_is_back():
    missing = 0
    for seed in range(20):
        mesh = ModelledMesh(seed, comes_back=False)
        history = mesh.run(400)
        delivered = {e.id for e in history if e.operation == "deliver"}
        late = {e.id for e in history if e.operation == "publish" and e.kind == "ok"} - delivered
        missing += len(late)
        assert judge(history).ok
        back = history[-1].__class__(
            time_ns=history[-1].time_ns, process="run", kind="info", operation="back", target="r.a"
        )
        assert judge([*history, back]).violations == ({"V1": len(late)} if late else {})
    assert missing, "in none of the histories was anything under way"
