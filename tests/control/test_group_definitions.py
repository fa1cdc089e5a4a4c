"""Definitions of groups from several regions: which one counts, whoever hears of it first."""

from itertools import permutations
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.broker.group_spec import GroupHome, GroupRecord, GroupSpec
from fedbus.broker.protocol import EARLIEST, GroupOptions
from fedbus.control.group_definitions import digest, in_conflict, merge


def record(created_ns=1, *, deleted=False, filters=("a",), home=None, **given):
    home = home or GroupHome("r", (), 1, "r")
    return GroupRecord(GroupSpec("g", list(filters), EARLIEST, created_ns=created_ns, home=home, **given), deleted)


def test_the_higher_age_counts():
    assert merge(record(version=1), record(version=2)).spec.version == 2
    assert merge(record(generation=2), record(version=9)).spec.generation == 2
    assert merge(record(2), record(1, generation=9)).spec.created_ns == 2


def test_a_seek_where_the_group_is_no_longer_at_home_counts_and_the_home_stays_where_it_is_now():
    sought = record(generation=2, home=GroupHome("old", ("new",), 1, "old"))
    taken = record(home=GroupHome("new", ("old",), 2, "old"))
    merged = merge(sought, taken)
    assert (merged.spec.generation, merged.spec.home) == (2, taken.spec.home)
    assert merged.spec.age > max(sought.spec.age, taken.spec.age)


def test_a_deletion_beats_what_it_deleted_and_nothing_that_came_later():
    gone = record(5, deleted=True, version=2)
    assert merge(gone, record(5, generation=7, version=9)).deleted
    assert not merge(gone, record(6, replaces_ns=5)).deleted


def test_groups_made_apart_under_one_name_are_in_conflict_if_their_filters_differ():
    known = record(5)
    assert in_conflict(known, record(9, filters=["b"]))
    assert in_conflict(record(9, filters=["b"]), known)
    assert not in_conflict(known, record(9))
    assert not in_conflict(known, record(9, filters=["b"], replaces_ns=5))
    assert not in_conflict(record(5, deleted=True), record(9, filters=["b"]))
    assert in_conflict(known, record(9, filters=["b"], deleted=True))  # the deletion of the other one is not its own
    assert not in_conflict(known, record(5, generation=2))


RECORDS = st.builds(
    record,
    st.integers(1, 2),
    deleted=st.booleans(),
    generation=st.integers(1, 2),
    version=st.integers(1, 2),
    home=st.builds(GroupHome, st.sampled_from("ab"), st.just(()), st.integers(1, 3)),
    options=st.builds(GroupOptions, max_deliveries=st.integers(0, 1)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS, min_size=2, max_size=4), st.integers(0, 999))
def test_regions_that_tell_one_another_come_to_the_same_end(records, seed):
    dice = Random(seed)
    for _ in range(40):
        here, there = dice.sample(range(len(records)), 2)
        assert merge(records[here], records[there]) == merge(records[there], records[here])
        records[here] = merge(records[here], records[there])
    for _ in records:
        for here, there in permutations(range(len(records)), 2):
            records[here] = merge(records[here], records[there])
    assert all(each == records[0] for each in records)


@given(RECORDS, RECORDS)
def test_what_comes_of_it_has_at_least_the_age_of_either(known, heard):
    merged = merge(known, heard)
    counted = [each for each in (known, heard) if each.spec.created_ns == merged.spec.created_ns]
    assert all(merged.spec.home.term >= each.spec.home.term for each in counted)
    assert all(merged.spec.age >= each.spec.age for each in (known, heard))


def test_a_digest_tells_different_definitions_apart():
    records = [record(), record(2, version=3)]
    assert digest(records) == digest(records[::-1]) != digest(records[:1])
