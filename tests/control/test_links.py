"""Who pulls which ledger from another region, and from where."""

from __future__ import annotations

from fedbus.control.links import Interest, LinkPlanner
from fedbus.control.summary import LedgerSummary, RegionSummary

OPEN = LedgerSummary("a.x/b1/1", 100, "tcp://a:1", open=True)
CLOSED = LedgerSummary("a.x/b1/0", 50, "tcp://a:1", open=False)


def peer(*ledgers: LedgerSummary) -> RegionSummary:
    return RegionSummary("a.x", 1, 0, 0.0, 0.0, 0.0, 0.0, 0.0, [], list(ledgers))


def test_without_interest_nothing_is_pulled() -> None:
    assert LinkPlanner().plan([peer(OPEN, CLOSED)], Interest(), {}, {}, ["b1"]) == {"b1": []}


def test_a_group_gets_the_past_and_a_live_subscription_what_comes_from_now_on() -> None:
    interest = Interest(durable=frozenset({"orders.>"}), live=frozenset({"news.>"}))
    links = LinkPlanner().plan([peer(OPEN)], interest, {}, {}, ["b1"])["b1"]
    assert {want.pattern: want.scanned_to for want in links[0].wants} == {"orders.>": 0, "news.>": 100}


def test_a_ledger_that_appears_later_is_wanted_whole_by_live_subscriptions_too() -> None:
    planner, interest = LinkPlanner(), Interest(live=frozenset({"news.>"}))
    planner.plan([peer(OPEN)], interest, {}, {}, ["b1"])
    young = LedgerSummary("a.x/b1/2", 7, "tcp://a:1", open=True)
    links = planner.plan([peer(OPEN, young)], interest, {OPEN.ledger: "b1"}, {}, ["b1"])["b1"]
    assert {link.ledger: link.wants[0].scanned_to for link in links} == {OPEN.ledger: 100, young.ledger: 0}


def test_ledgers_are_spread_and_stay_where_they_are_assigned() -> None:
    planner, interest = LinkPlanner(), Interest(durable=frozenset({">"}))
    links = planner.plan([peer(OPEN, CLOSED)], interest, {}, {}, ["b1", "b2"])
    assert sorted(len(each) for each in links.values()) == [1, 1]
    assigned = {link.ledger: name for name, each in links.items() for link in each}
    again = planner.plan([peer(OPEN, CLOSED)], interest, assigned, {}, ["b0", "b1", "b2"])
    assert {link.ledger: name for name, each in again.items() for link in each} == assigned


def test_a_receiver_that_is_only_away_is_waited_for() -> None:
    interest = Interest(durable=frozenset({">"}))
    assert LinkPlanner().plan([peer(OPEN)], interest, {OPEN.ledger: "b9"}, {}, ["b1"]) == {"b1": []}


def test_a_closed_ledger_that_was_scanned_to_its_end_needs_no_link() -> None:
    interest, assigned = Interest(durable=frozenset({">"})), {CLOSED.ledger: "b1", OPEN.ledger: "b1"}
    scanned = {"b1": {CLOSED.ledger: {">": 50}, OPEN.ledger: {">": 100}}}
    links = LinkPlanner().plan([peer(OPEN, CLOSED)], interest, assigned, scanned, ["b1"])["b1"]
    assert [link.ledger for link in links] == [OPEN.ledger]
