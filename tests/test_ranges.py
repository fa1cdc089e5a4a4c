"""RangeSet against the set of integers that it stands for."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from fedbus.ranges import RangeSet

edge = st.integers(0, 40)
steps = st.lists(st.tuples(st.booleans(), edge, edge), max_size=25)


def numbers(ranges):
    return {value for start, end in ranges for value in range(start, end)}


@given(steps, edge, edge)
def test_it_is_the_set_it_stands_for(steps, start, end):
    found, model = RangeSet(), set()
    for adding, low, high in steps:
        piece = set(range(low, high))
        if adding:
            assert found.add(low, high) == len(piece - model)
            model |= piece
        else:
            found.remove(low, high)
            model -= piece
    asked = set(range(start, end))
    assert numbers(found) == model
    assert found.total() == len(model)
    assert numbers(found.overlap(start, end)) == asked & model
    assert numbers(found.gaps(start, end)) == asked - model
    assert found.covers(start, end) == (asked <= model)
    assert (start in found) == (start in model)
    assert found.low_water(start) == next(v for v in range(start, 99) if v not in model)
    assert found == RangeSet(list(found))


@given(steps)
def test_its_ranges_are_sorted_apart_and_as_few_as_can_be(steps):
    found = RangeSet()
    for adding, low, high in steps:
        (found.add if adding else found.remove)(low, high)
    ranges = list(found)
    assert all(start < end for start, end in ranges)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))
    assert len(found) == len(ranges)


def _disjoint(numbers: list[int]) -> list[tuple[int, int]]:
    """Sorted, disjoint ranges between pairs of these numbers."""
    edges = sorted(set(numbers))
    return list(zip(edges[::2], edges[1::2], strict=False))


@given(
    st.lists(st.integers(0, 200), max_size=80),
    st.lists(st.integers(0, 200), max_size=80),
)
def test_many_ranges_at_once_are_what_they_are_one_by_one(here: list[int], asked: list[int]):
    ranges = _disjoint(asked)
    together, single = RangeSet(_disjoint(here)), RangeSet(_disjoint(here))
    expected = [each for start, end in ranges for each in single.overlap(start, end)]
    assert together.take(ranges) == expected
    for start, end in ranges:
        single.remove(start, end)
    assert together == single
    together.add_all(ranges)
    for start, end in ranges:
        single.add(start, end)
    assert together == single
