"""Key slots that move between instances at random, from printed seeds."""

import pytest

from tests.broker.handover_run import run_handover


@pytest.mark.parametrize("seed", range(40))
def test_order_per_key_holds_across_owners(seed: int):
    run_handover(seed)
