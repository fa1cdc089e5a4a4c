"""Ledgers with two copies among three instances under faults, from seeds; the real plan of the manager decides."""

import pytest

from tests.broker.replicated_run import run_replicated

SEEDS = 40
LONG_SEEDS = range(100_000, 100_004)


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_what_was_acknowledged_survives_and_copies_are_equal_in_the_end(first: int):
    for seed in range(first, first + 10):
        print(f"seed {seed}")
        run_replicated(seed)


@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_a_long_life_with_many_faults(seed: int):
    print(f"seed {seed}")
    run = run_replicated(seed, steps=1500)
    assert len(run.acked) > 100, "a run in which little succeeds shows little"


def test_the_same_seed_makes_the_same_run():
    one, other = run_replicated(7), run_replicated(7)
    assert (one.acked, one.world.now_ns) == (other.acked, other.world.now_ns)
