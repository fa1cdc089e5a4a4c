"""Slots: stable, fair, and moved only with those owners that come or go."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.keys import NO_OWNER, SLOTS, assign_slots, best_owner, key_hash, slot_of

names = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=6).map(sorted)


@given(names, st.text(min_size=1, max_size=8), st.randoms())
def test_only_slots_of_owners_that_come_or_go_move(owners, newcomer, random):
    before = [owners[place] for place in assign_slots(owners)]
    more = [*owners, newcomer] if newcomer not in owners else owners
    random.shuffle(more)
    after = [more[place] for place in assign_slots(more)]
    assert all(now in (then, newcomer) for then, now in zip(before, after, strict=True))


@given(names, st.integers(0, SLOTS - 1))
def test_one_slot_goes_where_the_whole_table_says(owners, slot):
    assert best_owner(slot, owners) == assign_slots(owners)[slot]


def test_slots_are_shared_out_fairly():
    counts = Counter(assign_slots([f"b{n}" for n in range(5)]))
    assert all(0.8 < count / (SLOTS / 5) < 1.2 for count in counts.values())


def test_without_owners_nobody_has_a_slot():
    assert set(assign_slots([])) == {NO_OWNER}


@given(st.text())
def test_a_key_hashes_to_32_bits_but_0(key):
    assert 0 < key_hash(key) < 2**32
    assert 0 <= slot_of(key_hash(key)) < SLOTS


@pytest.mark.parametrize(("key", "expected"), [("customer-7", 42_760_520), ("", 1)])
def test_hashes_are_part_of_the_format(key, expected):
    assert key_hash(key) == expected
