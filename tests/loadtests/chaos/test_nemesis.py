"""The schedule of faults follows from its seed and leaves out none."""

from __future__ import annotations

from random import Random

import pytest

from fedbus_loadtests.chaos.faults import KINDS, LASTING_S, SAME_AS, Faults, of_replicas
from fedbus_loadtests.chaos.nemesis import schedule


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_strikes_and_the_time_is_filled(seed: int):
    blows = schedule(KINDS, 60.0, Random(seed), longest_s=5.0)
    assert {blow.kind for blow in blows} == set(KINDS)
    assert sum(blow.lasting_s + blow.pause_s for blow in blows) >= 60
    assert all(blow.lasting_s <= 5 for blow in blows)


def test_the_same_seed_gives_the_same_schedule_and_another_one_another():
    assert schedule(KINDS, 30.0, Random(1)) == schedule(KINDS, 30.0, Random(1))
    assert schedule(KINDS, 30.0, Random(1)) != schedule(KINDS, 30.0, Random(2))


def test_every_kind_has_its_fault_and_its_time():
    assert all(callable(getattr(Faults, f"_{SAME_AS.get(kind, kind)}")) for kind in KINDS)
    assert all(shortest <= longest for shortest, longest in LASTING_S.values())


def test_without_copies_there_is_no_manager_to_kill():
    assert set(of_replicas(2)) - set(of_replicas(1)) == {"manager"}
