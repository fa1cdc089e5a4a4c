"""Long random runs of the steps of ``test_simulation.py`` from printed seeds: deeper than what shrinks well."""

import pytest

from tests.broker.scenario import run_scenario

SEEDS = range(12)


@pytest.mark.parametrize("kind", ["faults", "links", "mutual", "damage", "groups"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_run_keeps_every_promise(kind: str, seed: int):
    run_scenario(kind, seed, steps=400)
