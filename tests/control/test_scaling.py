from hypothesis import given
from hypothesis import strategies as st

from fedbus.control.scaling import Bounds, Need, instances_for, scale

MINUTE = 60_000_000_000
FIVE = Bounds(1, 100, 0, 5 * MINUTE)


def played(needs, bounds=FIVE, ahead=0):
    recent, found = (), []
    for minute, need in enumerate(needs):
        scaled = scale(minute * MINUTE, need, ahead, recent, bounds)
        recent = scaled.recent
        found.append((scaled.target, scaled.floor))
    return found


def test_scaling_out_follows_at_once_and_scaling_in_after_the_window():
    assert played([1, 4, 2, 2, 2, 2, 2, 2, 1]) == [
        (1, 1), (4, 4), (2, 4), (2, 4), (2, 4), (2, 4), (2, 4), (2, 2), (1, 2),
    ]  # fmt: skip


def test_what_is_needed_further_ahead_only_forbids_scaling_in():
    assert played([2, 2], ahead=5) == [(2, 5), (2, 5)]


def test_spares_come_on_top_and_limits_hold():
    spared = Bounds(2, 5, 1, MINUTE)
    assert played([0, 3, 9], spared) == [(2, 2), (4, 4), (5, 5)]
    assert scale(0, 1, 3, (), spared).floor == 4


def test_a_clock_that_was_set_back_forgets_what_is_to_come():
    assert scale(0, 1, 0, (Need(MINUTE, 7),), FIVE).floor == 1


def test_instances_round_up_but_not_for_noise():
    assert instances_for(0, 100) == 0
    assert instances_for(300, 100) == instances_for(300 * (1 + 1e-15), 100) == 3
    assert instances_for(301, 100) == 4
    assert instances_for(300, 100, 0.5) == 6


@given(st.lists(st.integers(0, 150), max_size=60), st.integers(0, 120), st.integers(0, 3))
def test_the_floor_is_the_largest_target_of_the_window_and_of_what_is_ahead(needs, ahead, spare):
    bounds = Bounds(1, 100, spare, 5 * MINUTE)
    found = played(needs, bounds, ahead)
    for minute, (target, floor) in enumerate(found):
        assert target == min(100, max(1, needs[minute] + spare))
        window = [each for each, _ in found[max(0, minute - 5) : minute + 1]]
        assert floor == min(100, max(*window, ahead + spare if ahead else 0, 0))
