from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.control.capacity import InstanceSize
from fedbus.control.scaling import Bounds
from fedbus.control.sizing import SizeMemory, choose_size, consider

HOUR = 3_600_000_000_000
SMALL, LARGE = InstanceSize("small", 1000.0, 1e6, cost=1.0), InstanceSize("large", 4000.0, 2e6, cost=3.0)
BOUNDS = Bounds(1, 10)


def played(loads, step_ns=HOUR // 12, bounds=BOUNDS, sizes=(SMALL, LARGE)):
    memory, chosen = SizeMemory(), []
    for number, eps in enumerate(loads):
        choice = choose_size(number * step_ns, [(eps, 0.0)], sizes, 1.0, bounds, memory, "small")
        memory = choice.memory
        chosen.append(choice.size.name)
    return chosen


def test_sizes_are_compared_by_what_holds_the_load_its_bytes_and_the_spares():
    found = consider([(3500.0, 0.0), (10.0, 3.9e6)], (SMALL, LARGE), 1.0, BOUNDS)
    assert [(each.size, each.instances, each.cost_per_hour) for each in found] == [("small", 4, 4.0), ("large", 2, 6.0)]
    spared = consider([(3500.0, 0.0)], (SMALL, LARGE), 1.0, Bounds(1, 10, 1))
    assert [(each.size, each.instances) for each in spared] == [("small", 5), ("large", 2)]
    full = consider([(30_000.0, 0.0)], (SMALL, LARGE), 1.0, BOUNDS)
    assert [(each.size, each.holds) for each in full] == [("large", True), ("small", False)]


def test_a_change_waits_until_it_would_have_paid_for_itself():
    chosen = played([3900.0] * 120)  # 4 × 1 against 1 × 3: a quarter cheaper, so four hours
    assert chosen.index("large") == 4 * 12 + 0


def test_a_saving_that_comes_and_goes_changes_nothing():
    assert set(played([3900.0, 900.0, 900.0] * 400)) == {"small"}


def test_a_maximum_that_does_not_hold_the_load_is_not_waited_for():
    assert played([500.0, 20_000.0, 500.0])[1:] == ["large", "large"]


def test_nobody_wanders_when_no_size_holds_the_load():
    assert set(played([1e9] * 400)[1:]) == {"large"}


def test_a_manager_that_was_away_counts_at_most_a_quarter_of_an_hour():
    assert set(played([3900.0] * 4, step_ns=100 * HOUR)) == {"small"}


def test_a_size_that_is_gone_is_replaced_by_the_preferred_one():
    choice = choose_size(0, [(1.0, 0.0)], (SMALL, LARGE), 1.0, BOUNDS, SizeMemory("huge", 0, 0), "large")
    assert choice.size is LARGE


@st.composite
def any_sizes(draw):
    rate, price = st.floats(1.0, 1e5), st.floats(0.01, 100.0)
    return tuple(InstanceSize(name, draw(rate), draw(rate), draw(price)) for name in "abcd"[: draw(st.integers(1, 4))])


@settings(max_examples=200, deadline=None)
@given(any_sizes(), st.lists(st.floats(0, 1e5), max_size=200), st.integers(1, 3), st.integers(3, 40))
def test_what_a_region_pays_for_changing_it_has_saved_or_it_could_not_hold_the_load(sizes, loads, minimum, maximum):
    memory = SizeMemory()
    for number, eps in enumerate(loads):
        before, kept = memory.size, memory
        choice = choose_size(
            number * HOUR // 12, [(eps, 0.0)], sizes, 1.0, Bounds(minimum, maximum), memory, sizes[0].name
        )
        memory = choice.memory
        assert sum(each.chosen for each in choice.considered) == 1
        present = next((each for each in choice.considered if each.size == before), None)
        taken = next(each for each in choice.considered if each.chosen)
        if present is None or taken.size == before:
            continue
        if present.holds:
            assert taken.holds
            assert taken.cost_per_hour < present.cost_per_hour
            saved = kept.saved.get(taken.size, 0.0) + (present.cost_per_hour - taken.cost_per_hour) / 12
            assert saved >= present.cost_per_hour * (1 - 1e-9)
