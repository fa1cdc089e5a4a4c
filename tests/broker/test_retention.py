"""Retention: whole closed ledgers go once nothing in them has to be kept, and what groups lose by that is on record."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.policies import DAY_MS, DEFAULT_RULE, Policies, TopicRule
from fedbus.broker.record import Kind
from fedbus.broker.retention import CLOCK_DOUBT_MS, LONGEST_STEP_NS, SteadyTime, over_size, past
from fedbus.broker.state import expired_decoder
from tests.broker.simulation import MILLISECOND, Node
from tests.broker.talk import Talk, settle, start

HOUR_MS = 3_600_000
FIRST = "here/n0/0"


def closed(name="l", newest_ms=0, topics=("a",), size_bytes=100):
    return e.Surveyed(name, newest_ms, topics, size_bytes)


def rule(pattern="a", *, hours=1, size_bytes=0):
    return TopicRule(filter=pattern, retention_ms=hours * HOUR_MS, retention_bytes=size_bytes)


# -- the decision ------------------------------------------------------------------------------------------------------


def test_a_ledger_stays_until_the_retention_of_every_topic_in_it_has_passed():
    rules = [rule("a", hours=1), rule("b", hours=3)]
    assert not past(closed(newest_ms=0), 0, rules, {}, 2 * HOUR_MS)
    assert past(closed(newest_ms=0), 0, rules, {}, 3 * HOUR_MS + 1)
    assert past(closed(newest_ms=0, topics=()), 0, [], {}, 0)


def test_age_counts_from_the_newest_event_or_from_the_closing_whichever_is_later():
    assert not past(closed(newest_ms=0), HOUR_MS, [rule()], {}, 2 * HOUR_MS)
    assert not past(closed(newest_ms=HOUR_MS), 0, [rule()], {}, 2 * HOUR_MS)
    # Long before the start: the restart does not make it young again, but nobody watched the clock in between.
    later = HOUR_MS + CLOCK_DOUBT_MS
    assert not past(closed(newest_ms=0), later, [rule()], {}, later)
    assert past(closed(newest_ms=0), later, [rule()], {}, later + 1)


@given(st.lists(st.integers(-2 * DAY_MS, 2 * DAY_MS), max_size=20))
def test_time_passes_no_faster_than_it_is_watched(jumps_ms):
    """A clock that jumps ages nothing: each look counts for at most a minute."""
    steady, now_ns = SteadyTime(), 10**18
    before = first = steady.advance(now_ns)
    for jump_ms in jumps_ms:
        now_ns += jump_ms * MILLISECOND
        after = steady.advance(now_ns)
        assert before <= after <= before + LONGEST_STEP_NS // MILLISECOND
        before = after
    assert before - first <= len(jumps_ms) * LONGEST_STEP_NS // MILLISECOND


@given(
    st.lists(st.tuples(st.integers(1, 50), st.sampled_from([("a",), ("b",), ("a", "b"), None])), max_size=12),
    st.integers(1, 200),
)
def test_size_never_cuts_into_the_newest_bytes_of_a_filter(ledgers, most_bytes):
    known = [closed(f"l{at}", at, topics, size) for at, (size, topics) in enumerate(ledgers, 1)]
    policies = Policies([rule("a", size_bytes=most_bytes)], 1)
    cutoff = over_size(policies, known).get("a", 0)
    holding = [each for each in known if each.topics is None or "a" in each.topics]
    kept = [each for each in holding if each.newest_ms >= cutoff]
    if len(kept) < len(holding):
        assert sum(each.size_bytes for each in kept) >= most_bytes
        assert sum(each.size_bytes for each in kept[1:]) < most_bytes
    over = [past(each, 0, policies.concerning(each.topics), {"a": cutoff}, 1) for each in known]
    assert all(each in holding and each not in kept for each, gone in zip(known, over, strict=True) if gone)
    assert not any(gone for each, gone in zip(known, over, strict=True) if each.topics != ("a",))


def test_a_ledger_whose_topics_are_not_known_is_kept_for_the_longest_retention_of_all():
    policies = Policies([rule("a", hours=1)], 1)
    assert policies.concerning(None) == [policies.rules[0], DEFAULT_RULE]


# -- in an instance ----------------------------------------------------------------------------------------------------


def apply(node: Node, *rules: TopicRule, version: int = 1) -> None:
    node.handle(e.ApplyTopics(version, list(rules)))


def restart(node: Node) -> None:
    node.crash()
    node.start()
    settle(node)


def pass_time(node: Node, ms: int, *alive: Talk) -> None:
    """In steps that somebody watches; the sessions of ``alive`` are kept up."""
    while ms > 0:
        step = min(ms, 5000 if alive else 30_000)
        ms -= step
        node.world.tick(step)
        for talk in alive:
            talk.say(p.Ping())
        node.survey()
        settle(node)


def published(*bodies: bytes, topic: str = "a") -> Node:
    """A node whose first ledger is closed and holds these events."""
    node = start()
    Talk(node).publish(*bodies, topic=topic)
    settle(node)
    restart(node)
    return node


def expiries(node: Node) -> list:
    """What is on disk about losses."""
    records = [record for ledger in node.disk.ledgers.values() for record in ledger]
    told = (expired_decoder.decode(record.payload) for record in records if record.kind is Kind.EXPIRED)
    return [each for expired in told for each in expired]


def test_a_closed_ledger_goes_once_its_time_has_passed_and_the_open_one_never():
    node = published(b"1")
    Talk(node).publish(b"2", topic="a")
    settle(node)
    apply(node, rule())
    pass_time(node, HOUR_MS - 60_000)
    assert FIRST in node.disk.ledgers
    pass_time(node, 2 * 60_000)
    assert list(node.disk.ledgers) == ["here/n0/1"]
    pass_time(node, 5 * HOUR_MS)
    assert list(node.disk.ledgers) == ["here/n0/1"]
    assert node.core.status().ledgers == {"here/n0/1": 1}


def test_nothing_goes_before_policies_were_heard():
    node = published(b"1")
    pass_time(node, 30 * HOUR_MS)
    assert FIRST in node.disk.ledgers
    apply(node, rule(hours=100))
    pass_time(node, HOUR_MS)
    assert FIRST in node.disk.ledgers


@pytest.mark.parametrize("jump_ms", [DAY_MS, -DAY_MS])
@pytest.mark.parametrize("seen", [True, False])
def test_a_clock_that_jumps_by_a_day_drops_nothing_early(jump_ms, seen):
    node = published(b"1")
    apply(node, rule(hours=2))
    pass_time(node, HOUR_MS)
    if seen:
        node.world.tick(jump_ms)
    else:  # while the instance is down
        node.crash()
        node.world.now_ns += jump_ms * MILLISECOND
        node.start()
        settle(node)
        apply(node, rule(hours=2))
    pass_time(node, HOUR_MS - 3 * 60_000)
    assert FIRST in node.disk.ledgers
    pass_time(node, 26 * HOUR_MS)
    assert FIRST not in node.disk.ledgers


def test_what_a_group_has_not_settled_is_on_record_before_the_ledger_goes():
    node = start()
    talk = Talk(node)
    talk.publish(b"1", b"2", b"3", b"4", topic="a")
    talk.subscribe("g", ("a",), credit=2)
    settle(node)
    talk.say(p.Ack(1, [p.Settled(FIRST, [(0, 1)])], request=7))
    settle(node)
    restart(node)
    apply(node, rule())
    pass_time(node, HOUR_MS + 60_000)
    assert FIRST not in node.disk.ledgers
    [expired] = expiries(node)
    assert (expired.group, expired.ledger, expired.events) == ("g", FIRST, 3)
    assert expired.ranges == [p.Settled(FIRST, [(1, 4)])]
    [loss] = node.core.status().expired
    assert (loss.group, loss.events) == ("g", 3)
    restart(node)
    assert node.core.status().expired == [loss]
    [group] = node.core.status().groups
    assert group.backlog == 0


def test_what_is_in_flight_counts_and_is_not_delivered_again():
    node = published(b"1", b"2")
    talk = Talk(node)
    talk.subscribe("g", ("a",), credit=1)
    settle(node)
    assert talk.bodies() == [b"1"]
    apply(node, rule())
    pass_time(node, HOUR_MS + 60_000)
    [expired] = expiries(node)
    assert expired.events == 2
    talk = Talk(node, b"t")
    talk.subscribe("g", ("a",))
    settle(node)
    assert talk.bodies() == []
    talk.publish(b"3", topic="a")
    settle(node)
    assert talk.bodies() == [b"3"]
    assert node.core.subscriptions.groups.get("g").settlement.outstanding == 1


def test_groups_that_settled_all_or_want_other_topics_lose_nothing():
    node = published(b"1", b"2")
    talk, other = Talk(node), Talk(node, b"t")
    talk.subscribe("g", ("a",))
    other.subscribe("elsewhere", ("b.>",))
    settle(node)
    talk.say(p.Ack(1, [p.Settled(FIRST, [(0, 2)])], request=7))
    settle(node)
    apply(node, rule())
    pass_time(node, HOUR_MS + 60_000)
    assert FIRST not in node.disk.ledgers
    assert expiries(node) == []
    assert node.core.status().expired == []


def test_a_ledger_waits_for_the_record_of_what_is_lost_with_it():
    node = published(b"1")
    Talk(node).subscribe("g", ("a",), credit=0)
    settle(node)
    apply(node, rule())
    node.disk.full = True
    pass_time(node, 2 * HOUR_MS)
    assert FIRST in node.disk.ledgers
    assert node.core.status().expired == []
    node.disk.full = False
    pass_time(node, 60_000)
    assert FIRST not in node.disk.ledgers
    [loss] = node.core.status().expired
    assert loss.events == 1


def test_state_that_only_an_old_ledger_holds_keeps_it():
    """Acknowledgements are records too: not before a snapshot of them is durable may the ledger go."""
    node = published(b"1")
    node.crash()
    node.start()  # its snapshot is not on disk yet
    apply(node, rule())
    for _ in range(200):
        node.world.tick(60_000)
        node.survey()
    assert FIRST in node.disk.ledgers
    settle(node)
    pass_time(node, 60_000)
    assert FIRST not in node.disk.ledgers


def test_live_cursors_into_a_dropped_ledger_go_on_at_the_next():
    node = published(b"1", b"2", b"3")
    Talk(node).publish(b"4", topic="a")
    settle(node)
    live = Talk(node, b"l")
    live.subscribe(credit=1)
    settle(node)
    assert live.bodies() == [b"1"]
    apply(node, rule())
    pass_time(node, HOUR_MS + 60_000, live)
    assert FIRST not in node.disk.ledgers
    live.say(p.Credit(1, 10))
    settle(node)
    assert live.bodies() == [b"4"]
    again = Talk(node, b"again")
    again.subscribe(start=p.Start("cursor", cursor={FIRST: 1}))
    settle(node)
    assert again.bodies() == [b"4"]


def test_what_a_link_is_being_fed_from_is_not_dropped_under_it():
    node = published(b"1", b"2")
    link = Talk(node, b"link")
    link.say(p.Pull(3, 3, FIRST, [p.LinkFilter("a", 0)], 1))
    settle(node)
    apply(node, rule())
    pass_time(node, 3 * HOUR_MS, link)
    assert FIRST in node.disk.ledgers
    link.say(p.Credit(3, 10))
    settle(node)
    pass_time(node, 60_000, link)
    assert FIRST not in node.disk.ledgers
    assert [message.subscription for message in link.heard(p.Ended)] == [3]


def test_size_drops_the_oldest_ledgers_and_leaves_other_topics_alone():
    node = published(b"x" * 600, topic="a")
    pass_time(node, 1000)
    Talk(node).publish(b"y" * 600, topic="b")
    settle(node)
    restart(node)
    pass_time(node, 1000)
    Talk(node).publish(b"z" * 600, topic="a")
    settle(node)
    restart(node)
    apply(node, rule("a", hours=1000, size_bytes=500), rule("b", hours=1000))
    pass_time(node, 60_000)
    assert list(node.disk.ledgers) == ["here/n0/1", "here/n0/2", "here/n0/3"]


def test_a_managed_instance_reports_and_leaves_the_files_to_others():
    node = published(b"1")
    node.core.retention._managed = True
    apply(node, rule())
    pass_time(node, HOUR_MS + 60_000)
    status = node.core.status()
    assert status.expired_ledgers == [FIRST]
    assert list(status.ledgers) == ["here/n0/1"]
    assert FIRST in node.disk.ledgers
    node.core.retention.gone(FIRST)
    assert node.core.status().expired_ledgers == []


def test_the_manager_hears_of_ledgers_where_a_policy_bounds_sizes():
    node = published(b"1")
    apply(node, rule())
    pass_time(node, 1000)
    assert node.core.status().retained == []
    apply(node, rule(size_bytes=10**9), version=2)
    pass_time(node, 1000)
    [known] = node.core.status().retained
    assert known == msgspec.structs.replace(node.disk.survey(FIRST), ledger=FIRST)
