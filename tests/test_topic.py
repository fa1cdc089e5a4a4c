"""Topics and filters against matching token by token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.errors import InvalidTopicError
from fedbus.topic import FilterSet, check_filter, check_topic, covers, is_topic, may_overlap

token = st.sampled_from(["a", "b", "_fedbus", "A-1"])
topics = st.lists(token, min_size=1, max_size=4).map(".".join)
filters = st.tuples(
    st.lists(st.one_of(token, st.just("*")), max_size=3), st.sampled_from([[], [">"]])
).map(lambda parts: ".".join(parts[0] + parts[1]) or "*")  # fmt: skip


def matches(pattern: str, topic: str) -> bool:
    wanted, given_ = pattern.split("."), topic.split(".")
    if wanted[0] in ("*", ">") and topic.startswith("_fedbus."):
        return False
    for place, part in enumerate(wanted):
        if part == ">":
            return len(given_) > place
        if place >= len(given_) or part not in ("*", given_[place]):
            return False
    return len(wanted) == len(given_)


@given(st.lists(filters, max_size=4), topics)
def test_a_filter_set_takes_what_one_of_its_filters_takes(patterns, topic):
    found = FilterSet(patterns, remembered=2)
    for _ in range(2):  # once worked out, once remembered
        assert found.matches(topic) == any(matches(pattern, topic) for pattern in patterns)


@given(filters, filters, topics)
def test_a_filter_that_covers_another_takes_all_the_other_takes(pattern, other, topic):
    if covers(pattern, other) and matches(other, topic):
        assert matches(pattern, topic)


@given(filters, filters, topics)
def test_filters_that_take_a_common_topic_may_overlap(pattern, other, topic):
    if matches(pattern, topic) and matches(other, topic):
        assert may_overlap(pattern, other)
        assert may_overlap(other, pattern)


@pytest.mark.parametrize(
    ("pattern", "other", "expected"),
    [
        (">", "a.b", True), (">", ">", True), ("a.>", "a.*", True), ("a.*", "a.>", False), ("*", "a", True),
        ("a.*", "a.b.c", False), ("a.>", "a", False), ("*.*", "a.b", True), ("a", "*", False),
        (">", "_fedbus.x", False), ("_fedbus.>", "_fedbus.x", True),
    ],
)  # fmt: skip
def test_covering(pattern, other, expected):
    assert covers(pattern, other) is expected


@pytest.mark.parametrize(
    ("pattern", "other", "expected"),
    [("a.*", "*.b", True), ("a.>", "a", False), ("a.>", "*.b.c", True), ("a.b", "a.c", False), ("a", "a.b", False)],
)
def test_overlapping(pattern, other, expected):
    assert may_overlap(pattern, other) is expected


@pytest.mark.parametrize(
    "topic", ["", ".", "a.", ".a", "a..b", "ä", "a b", "a.*", "a" * 256, ".".join("a" * 17), "a\n"]
)
def test_what_is_no_topic_is_refused(topic):
    assert not is_topic(topic)
    with pytest.raises(InvalidTopicError):
        check_topic(topic)


def test_reserved_topics_are_for_the_bus_itself():
    assert is_topic("_fedbus.x")
    with pytest.raises(InvalidTopicError, match="reserved"):
        check_topic("_fedbus.x")


@pytest.mark.parametrize("pattern", ["", ">.a", "a.>.b", "a..b", "a*", "*a", "a.", "ä", ".".join("a" * 17), "a\n"])
def test_what_is_no_filter_is_refused(pattern):
    with pytest.raises(InvalidTopicError):
        check_filter(pattern)
