"""Which policy holds for a topic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker.policies import DEFAULT_RULE, REMEMBERED, Policies, TopicRule, check_decidable, ties
from fedbus.errors import ConflictError, NotFoundError
from fedbus.topic import FilterSet, may_overlap, specificity

TOKEN = st.sampled_from(["a", "b", "*"])
PATTERN = st.builds(
    lambda tokens, rest: ".".join([*tokens, *rest]),
    st.lists(TOKEN, min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
) | st.just(">")
TOPIC = st.lists(st.sampled_from(["a", "b", "c", "_fedbus"]), min_size=1, max_size=5).map(".".join)


def policies(*filters, version=1, **options):
    return Policies([TopicRule(filter=each) for each in filters], version, **options)


def test_the_most_specific_filter_wins():
    known = policies(">", "orders.>", "orders.*", "orders.eu", "orders.*.created")
    chosen = {
        topic: known.rule(topic).filter
        for topic in ("a", "orders.us", "orders.eu", "orders.eu.created", "orders.a.b.c")
    }
    assert chosen == {
        "a": ">",
        "orders.us": "orders.*",
        "orders.eu": "orders.eu",
        "orders.eu.created": "orders.*.created",
        "orders.a.b.c": "orders.>",
    }


def test_without_a_policy_the_defaults_hold():
    assert policies().rule("b") is DEFAULT_RULE
    assert policies("a").rule("b") is DEFAULT_RULE


@given(PATTERN, PATTERN, TOPIC)
def test_filters_that_share_a_topic_overlap(one, other, topic):
    if FilterSet([one]).matches(topic) and FilterSet([other]).matches(topic):
        assert may_overlap(one, other)
        assert may_overlap(other, one)
        assert (one, other) in ties([one, other]) or specificity(one) != specificity(other)


@given(st.sets(PATTERN, max_size=6), TOPIC)
def test_a_rule_is_that_of_a_filter_that_takes_the_topic(filters, topic):
    taking = [each for each in filters if FilterSet([each]).matches(topic)]
    rule = policies(*filters).rule(topic)
    assert rule.filter in taking or (not taking and rule is DEFAULT_RULE)
    assert all(specificity(rule.filter) >= specificity(each) for each in taking)


@given(st.sets(PATTERN, max_size=6), PATTERN, TOPIC)
def test_no_rule_of_a_topic_that_a_filter_stands_for_is_missed(filters, pattern, topic):
    """A ledger says ``orders.>`` for many topics: none of them may lose its retention by that."""
    if FilterSet([pattern]).matches(topic):
        known = policies(*filters)
        assert known.rule(topic) in known.concerning([pattern])
        assert known.rule(topic) in known.concerning(None)
        assert known.concerning([topic]) == [known.rule(topic)]


def test_a_tie_names_both():
    with pytest.raises(ConflictError, match=r"\*\.b and a\.\*"):
        check_decidable("*.b", ["a.*", "c.>"])
    check_decidable("a.*", ["a.*", "a.b", "a.>", "b.*"])


def test_newer_rules_replace_older_ones_and_never_the_other_way_round():
    known = policies("a", version=3)
    assert known.rule("b") is DEFAULT_RULE
    assert known.apply(4, [TopicRule(filter="b", dedup_window_ms=5)])
    assert (known.rule("b").dedup_window_ms, known.rule("a")) == (5, DEFAULT_RULE)
    assert not known.apply(4, [])
    assert not known.apply(2, [])
    assert known.dedup_window_ms("b") == 5


def test_what_is_remembered_of_topics_is_bounded():
    known = policies("a.>")
    for number in range(REMEMBERED + 10):
        assert known.rule(f"a.t{number}").filter == "a.>"
    assert len(known._found) <= REMEMBERED


def test_without_auto_create_a_topic_exists_once_a_policy_names_it():
    known = policies("orders.>", auto_create=False)
    known.check_exists("orders.eu")
    with pytest.raises(NotFoundError, match="fedbus topic set bills"):
        known.check_exists("bills")
    policies().check_exists("bills")
