"""Who pulls which ledger from another region, from where, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker.policies import TopicRule
from fedbus.control.links import ORDER_WAIT_NS, Interest, LinkPlanner, forced
from fedbus.control.summary import LedgerSummary, RegionSummary

OPEN = LedgerSummary("a.x/b1/1", 100, "tcp://a:1", open=True)
CLOSED = LedgerSummary("a.x/b1/0", 50, "tcp://a:1", open=False)
OTHER = LedgerSummary("a.x/b2/0", 70, "tcp://a:2", open=True)
ALL = Interest(durable=frozenset({">"}))


def peer(*ledgers: LedgerSummary) -> RegionSummary:
    return RegionSummary("a.x", 1, 0, 0.0, 0.0, 0.0, 0.0, 0.0, [], list(ledgers), link_key="key of a.x")


def names(links):
    return [link.ledger for link in links]


def test_without_interest_nothing_is_pulled() -> None:
    assert LinkPlanner().plan([peer(OPEN, CLOSED)], Interest(), {}, {}, ["b1"]) == {"b1": []}


def test_a_group_gets_the_past_and_a_live_subscription_what_comes_from_now_on() -> None:
    interest = Interest(durable=frozenset({"orders.>"}), live=frozenset({"news.>"}))
    links = LinkPlanner().plan([peer(OPEN)], interest, {}, {}, ["b1"])["b1"]
    assert {want.pattern: want.scanned_to for want in links[0].wants} == {"orders.>": 0, "news.>": 100}
    assert links[0].key == "key of a.x"


def test_a_ledger_that_appears_later_is_wanted_whole_by_live_subscriptions_too() -> None:
    planner, interest = LinkPlanner(), Interest(live=frozenset({"news.>"}))
    planner.plan([peer(OTHER)], interest, {}, {}, ["b1"])
    young = LedgerSummary("a.x/b3/2", 7, "tcp://a:1", open=True)
    links = planner.plan([peer(OTHER, young)], interest, {OTHER.ledger: "b1"}, {}, ["b1"])["b1"]
    assert {link.ledger: link.wants[0].scanned_to for link in links} == {OTHER.ledger: 70, young.ledger: 0}


def test_instances_are_spread_and_stay_where_they_are_assigned() -> None:
    planner = LinkPlanner()
    links = planner.plan([peer(OPEN, OTHER)], ALL, {}, {}, ["b1", "b2"])
    assert sorted(len(each) for each in links.values()) == [1, 1]
    assigned = {link.ledger: name for name, each in links.items() for link in each}
    again = planner.plan([peer(OPEN, OTHER)], ALL, assigned, {}, ["b0", "b1", "b2"])
    assert {link.ledger: name for name, each in again.items() for link in each} == assigned


def test_a_receiver_that_is_only_away_is_waited_for() -> None:
    assert LinkPlanner().plan([peer(OPEN)], ALL, {OPEN.ledger: "b9"}, {}, ["b1"]) == {"b1": []}


def test_what_an_instance_writes_next_goes_to_the_same_receiver_even_if_that_is_away() -> None:
    young = LedgerSummary("a.x/b1/2", 0, "tcp://a:1", open=True)
    done = {"b2": {CLOSED.ledger: {">": 50}, OTHER.ledger: {">": 70}}}
    assigned = {CLOSED.ledger: "b2", OTHER.ledger: "b2"}
    links = LinkPlanner().plan([peer(CLOSED, young, OTHER)], ALL, assigned, done, ["b1", "b2"])
    assert (names(links["b1"]), names(links["b2"])) == ([], [young.ledger, OTHER.ledger])
    assert names(LinkPlanner().plan([peer(CLOSED, young)], ALL, assigned, done, ["b1"])["b1"]) == []


def test_a_later_ledger_waits_until_the_earlier_one_is_closed_and_scanned_to_its_end() -> None:
    planner, assigned = LinkPlanner(), {CLOSED.ledger: "b1"}
    ends = [49, 50]
    plans = [
        planner.plan([peer(CLOSED, OPEN)], ALL, assigned, {"b1": {CLOSED.ledger: {">": end}}}, ["b1"])["b1"]
        for end in ends
    ]
    assert [names(each) for each in plans] == [[CLOSED.ledger], [OPEN.ledger]]
    growing = LedgerSummary(CLOSED.ledger, 50, "tcp://a:1", open=True)
    scanned = {"b1": {CLOSED.ledger: {">": 50}}}
    assert names(planner.plan([peer(growing, OPEN)], ALL, assigned, scanned, ["b1"])["b1"]) == [CLOSED.ledger]


def test_a_new_filter_works_its_way_through_old_ledgers_while_others_go_on_with_the_newest() -> None:
    interest = Interest(durable=frozenset({"new.>", "old.>"}))
    assigned, scanned = dict.fromkeys((CLOSED.ledger, OPEN.ledger), "b1"), {"b1": {CLOSED.ledger: {"old.>": 50}}}
    links = LinkPlanner().plan([peer(CLOSED, OPEN)], interest, assigned, scanned, ["b1"])["b1"]
    assert {link.ledger: [want.pattern for want in link.wants] for link in links} == {
        CLOSED.ledger: ["new.>", "old.>"],
        OPEN.ledger: ["old.>"],
    }


def test_a_ledger_that_nobody_serves_holds_up_later_ones_for_a_while_only() -> None:
    planner = LinkPlanner()
    lost = LedgerSummary(CLOSED.ledger, 0, "", open=True)
    plans = [planner.plan([peer(lost, OPEN)], ALL, {}, {}, ["b1"], at_ns)["b1"] for at_ns in (0, ORDER_WAIT_NS + 1)]
    assert [names(each) for each in plans] == [[], [OPEN.ledger]]
    assert planner.not_waited_for == {lost.ledger}, "which is said"


def test_who_has_just_begun_to_plan_goes_on_where_a_live_subscription_is() -> None:
    interest, scanned = Interest(live=frozenset({"news.>"})), {"b1": {OPEN.ledger: {"news.>@40": 60}}}
    planner = LinkPlanner()
    links = planner.plan([peer(OPEN)], interest, {OPEN.ledger: "b1"}, scanned, ["b1"])["b1"]
    assert [want.scanned_to for want in links[0].wants] == [60]


def test_what_has_expired_at_its_origin_is_forgotten() -> None:
    planner = LinkPlanner()
    planner.plan([peer(CLOSED, OPEN)], Interest(live=frozenset({">"})), {}, {}, ["b1"])
    planner.plan([peer(OPEN)], Interest(live=frozenset({">"})), {}, {}, ["b1"])
    assert planner._starts.keys() == {(OPEN.ledger, ">")}
    assert planner._endpoints.keys() == {OPEN.ledger}


def test_a_word_that_names_nobody_does_not_end_a_link_at_once() -> None:
    planner = LinkPlanner()
    planner.plan([peer(OPEN)], ALL, {}, {}, ["b1"])
    unknown = LedgerSummary(OPEN.ledger, 0, "", open=True)
    links = planner.plan([peer(unknown)], ALL, {OPEN.ledger: "b1"}, {}, ["b1"])["b1"]
    assert [(link.ledger, link.endpoint) for link in links] == [(OPEN.ledger, OPEN.endpoint)]


def test_a_dropped_origin_ledger_is_pulled_no_more_and_holds_up_nothing() -> None:
    planner = LinkPlanner()
    planner.plan([peer(CLOSED, OPEN)], ALL, {}, {}, ["b1"])
    assert names(planner.plan([peer(OPEN)], ALL, {CLOSED.ledger: "b1"}, {}, ["b1"])["b1"]) == [OPEN.ledger]


def test_policies_make_a_region_pull() -> None:
    rules = [
        TopicRule(filter="a.>"),
        TopicRule(filter="b.>", forward="all"),
        TopicRule(filter="c.>", regions=("x", "y")),
        TopicRule(filter="d.>", forward="pinned", regions=("x",)),
        TopicRule(filter="e.>", durability="federation"),
        TopicRule(filter="f.>", durability="federation", regions=("y",)),
    ]
    assert forced(rules, "x") == {"b.>", "c.>", "d.>", "e.>"}
    assert forced(rules, "z") == {"b.>", "e.>"}


epochs = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=4)


@given(
    instances=st.lists(epochs, min_size=1, max_size=3),
    progress=st.dictionaries(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["a.>", "b.>"])), st.integers(0, 30)
    ),
    living=st.lists(st.sampled_from(["r1", "r2", "r3"]), unique=True),
    steps=st.integers(1, 4),
)
def test_whatever_happens_one_receiver_an_instance_and_no_filter_overtakes_itself(instances, progress, living, steps):
    ledgers = [
        LedgerSummary(f"a.x/b{at}/{epoch}", end, f"tcp://a:{at}", open=is_open)
        for at, written in enumerate(instances)
        for epoch, (end, is_open) in enumerate(written)
    ]
    planner, interest = LinkPlanner(), Interest(durable=frozenset({"a.>", "b.>"}))
    assigned: dict[str, str] = {}
    for step in range(steps):
        reached: dict[str, dict[str, int]] = {}
        for (at, epoch, pattern), offset in progress.items():
            reached.setdefault(f"a.x/b{at}/{epoch}", {})[pattern] = offset + 10 * step
        scanned = dict.fromkeys(("r1", "r2", "r3"), reached)
        links = planner.plan([peer(*ledgers)], interest, assigned, scanned, sorted(living))
        for name, held in links.items():
            for link in held:
                assert assigned.setdefault(link.ledger, name) == name, "only a handover moves a ledger"
        for at, written in enumerate(instances):
            receivers = {who for ledger, who in assigned.items() if ledger.startswith(f"a.x/b{at}/")}
            assert len(receivers) <= 1, "order per key needs one receiver"
            for pattern in ("a.>", "b.>"):
                pulled = [
                    epoch
                    for epoch in range(len(written))
                    for held in links.values()
                    for link in held
                    if link.ledger == f"a.x/b{at}/{epoch}" and pattern in [want.pattern for want in link.wants]
                ]
                for epoch in pulled:
                    for earlier in range(epoch):
                        end, is_open = written[earlier]
                        name = f"a.x/b{at}/{earlier}"
                        through = assigned.get(name) is None and end == 0
                        through = through or reached.get(name, {}).get(pattern, 0) >= end
                        assert not is_open, "a later epoch waits while an earlier one can grow"
                        assert through, "and until that was scanned to its end"


def test_a_ledger_is_pulled_as_long_as_something_in_it_waits_for_the_word_that_it_has_come() -> None:
    waiting = LedgerSummary(CLOSED.ledger, CLOSED.end, CLOSED.endpoint, open=False, waits=True)
    done = {"b1": {CLOSED.ledger: {">": CLOSED.end}}}
    assigned = {CLOSED.ledger: "b1", OPEN.ledger: "b1"}
    planner = LinkPlanner()
    assert names(planner.plan([peer(waiting, OPEN)], ALL, assigned, done, ["b1"])["b1"]) == [CLOSED.ledger, OPEN.ledger]
    assert names(planner.plan([peer(CLOSED, OPEN)], ALL, assigned, done, ["b1"])["b1"]) == [OPEN.ledger]
