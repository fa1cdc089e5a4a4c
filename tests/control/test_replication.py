from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.broker.copy_effects import Request
from fedbus.control.replication import (
    Grant,
    Holder,
    Later,
    LedgerView,
    Refusal,
    Settings,
    answer,
    plan,
    unfinished_drain,
)
from fedbus.ledger_record import Fragment, Held, LedgerRecord, Member
from tests.control.ledger_world import SECOND, World

NOW = 100 * SECOND


def member(name, directory=None):
    return Member(f"r/{name}", directory or f"{name}-1")


def record(name="b1", epoch=1, members=("b1", "b2"), **changes):
    base = LedgerRecord(
        id=f"r/{name}/{epoch}",
        writer=member(name),
        fragments=(Fragment(0, tuple(member(each) for each in members)),),
        dispatcher=f"r/{name}",
    )
    return msgspec.structs.replace(base, **changes)


def held(ledger, end, first=0, **more):
    return Held(ledger=ledger, first_number=first, end_number=end, end_offset=end,
                **({"version": 1, "term": 0, "confirmed": 0} | more))  # fmt: skip


def holder(name, *copies, node="n1", **more):
    return Holder(member=member(name), node=node, held={each.ledger: each for each in copies}, **more)


def view(records, holders, **knobs):
    return LedgerView(records=tuple(records), holders=tuple(holders), now_ns=NOW, settings=Settings(**knobs))


def kinds(planned):
    return [change.kind for change in planned.changes]


SILENT = {"present": False, "silent_since_ns": NOW - 6 * SECOND}


# -- open ----------------------------------------------------------------------------------------------------------


def test_a_first_ledger_goes_to_another_node_and_then_to_the_instance_with_the_fewest_copies():
    busy = record("b9", members=("b9", "b3"))
    holders = [holder("b1"), holder("b2"), holder("b3", node="n2"), holder("b4", node="n2")]
    got = answer(view([busy], holders), "r/b1", Request("open", "r/b1/1"))
    assert isinstance(got, Grant)
    assert got.store == "add"
    assert got.record.last.members == (member("b1"), member("b4"))
    assert (got.record.dispatcher, got.record.writer) == ("r/b1", member("b1"))


def test_the_next_ledger_stays_with_the_members_of_the_last_one():
    old = record("b1", 1, ("b1", "b4"), state="CLOSED", end_number=3, end_offset=3)
    holders = [holder("b1"), holder("b2"), holder("b3"), holder("b4")]
    got = answer(view([old], holders), "r/b1", Request("open", "r/b1/2", writing="r/b1/1"))
    assert isinstance(got, Grant)
    assert set(got.record.members) == {member("b1"), member("b4")}


def test_a_lone_instance_has_one_copy_unless_two_are_demanded():
    request = Request("open", "r/b1/1")
    got = answer(view([], [holder("b1")]), "r/b1", request)
    assert isinstance(got, Grant)
    assert got.record.members == (member("b1"),)
    refused = answer(view([], [holder("b1")], min_copies=2), "r/b1", request)
    assert isinstance(refused, Refusal)
    assert "under_replicated" in refused.detail


def test_a_repeated_request_to_open_gets_the_same_ledger_and_a_lost_directory_a_higher_epoch():
    there = record("b1", 3)
    again = answer(view([there], [holder("b1"), holder("b2")]), "r/b1", Request("open", "r/b1/3"))
    assert again == Grant(there)
    stranger = Holder(member=member("b1", "other"), node="n1")
    fresh = answer(view([there], [stranger, holder("b2")]), "r/b1", Request("open", "r/b1/1"))
    assert isinstance(fresh, Grant)
    assert fresh.record.id == "r/b1/4"


def test_who_has_not_reported_to_this_manager_yet_opens_nothing():
    """Its former ledgers could not be recovered before it has; they must be, before it begins another."""
    unknown = holder("b1", present=False)
    assert isinstance(answer(view([record("b1", 1)], [unknown]), "r/b1", Request("open", "r/b1/2")), Later)


def test_a_new_incarnation_waits_for_its_former_ledgers_and_not_for_what_cannot_be_had():
    former = record("b1", 1)
    starting = holder("b1", held(former.id, 5), from_epoch=2)
    request = Request("open", "r/b1/2")
    assert isinstance(answer(view([former], [starting, holder("b2")]), "r/b1", request), Later)
    damaged = msgspec.structs.replace(former, state="RECOVERING", term=1)
    starting = holder("b1", held(former.id, 5, term=1, confirmed=9), from_epoch=2)
    got = answer(view([damaged], [starting, holder("b2", **SILENT)]), "r/b1", request)
    assert isinstance(got, Grant)
    assert got.record.id == "r/b1/2"


# -- ensembles -----------------------------------------------------------------------------------------------------


def ensemble(first, *silent, version=1):
    return Request("ensemble", "r/b1/1", version, first_number=first, first_offset=first, silent=silent)


def test_a_silent_member_is_replaced_from_the_first_unconfirmed_record_on():
    holders = [holder("b1"), holder("b2"), holder("b3")]
    got = answer(view([record()], holders), "r/b1", ensemble(7, "r/b2"))
    assert isinstance(got, Grant)
    assert got.store == "swap"
    assert got.record.fragments == (record().fragments[0], Fragment(7, (member("b1"), member("b3")), 7))


def test_two_changes_at_the_same_record_leave_one_fragment():
    before = record(fragments=(Fragment(0, (member("b1"), member("b2"))), Fragment(7, (member("b1"), member("b3")), 7)))
    holders = [holder("b1"), holder("b2"), holder("b3"), holder("b4")]
    got = answer(view([before], holders), "r/b1", ensemble(7, "r/b2", "r/b3"))
    assert isinstance(got, Grant)
    assert len(got.record.fragments) == 2
    assert got.record.last.members == (member("b1"), member("b4"))


def test_an_ensemble_below_min_copies_is_refused_and_an_outdated_request_gets_the_record_as_it_is():
    refused = answer(view([record()], [holder("b1"), holder("b2")], min_copies=2), "r/b1", ensemble(7, "r/b2"))
    assert isinstance(refused, Refusal)
    assert "under_replicated" in refused.detail
    newer = record(version=4)
    assert answer(view([newer], [holder("b1"), holder("b2")]), "r/b1", ensemble(7, "r/b2")) == Grant(newer)
    fenced = record(state="RECOVERING", term=1)
    assert answer(view([fenced], [holder("b1")]), "r/b1", ensemble(7, "r/b2")) == Grant(fenced)


def test_only_its_writer_may_ask_about_a_ledger():
    assert isinstance(answer(view([record()], [holder("b2")]), "r/b2", ensemble(7)), Refusal)
    close = Request("close", "r/b1/1", end_number=9, end_offset=8)
    got = answer(view([record()], [holder("b1"), holder("b2")]), "r/b1", close)
    assert isinstance(got, Grant)
    assert (got.record.state, got.record.end_number, got.record.end_offset) == ("CLOSED", 9, 8)


def test_an_open_ledger_is_reviewed_when_a_copy_can_be_added_or_a_member_leaves():
    alone = record(members=("b1",))
    assert plan(view([alone], [holder("b1"), holder("b2")])).reviews
    assert not plan(view([alone], [holder("b1"), holder("b2", **SILENT)])).reviews
    assert plan(view([record()], [holder("b1"), holder("b2", stage="leaving"), holder("b3")])).reviews
    assert plan(view([record()], [holder("b1"), holder("b2", stage="leaving")])).reviews, "R is 1 then"
    assert not plan(view([record()], [holder("b1"), holder("b2")])).reviews


def test_fragments_are_merged_once_the_last_members_hold_everything():
    fragments = (Fragment(0, (member("b1"), member("b2"))), Fragment(7, (member("b1"), member("b3")), 7))
    half, whole = held("r/b1/1", 12, first=7), held("r/b1/1", 12)
    ledger = record(fragments=fragments)
    writer = holder("b1", held("r/b1/1", 12))
    assert "merge" not in kinds(plan(view([ledger], [writer, holder("b2"), holder("b3", half)])))
    merged = plan(view([ledger], [writer, holder("b2"), holder("b3", whole)])).changes[0]
    assert merged.records[0].fragments == (Fragment(0, (member("b1"), member("b3"))),)


# -- recovery ------------------------------------------------------------------------------------------------------


def test_a_silent_writer_is_taken_over_after_the_delay_and_only_if_somebody_can_be_fenced():
    patient = {"present": False, "silent_since_ns": NOW - 4 * SECOND}
    assert kinds(plan(view([record()], [holder("b1", **SILENT), holder("b2")]))) == ["recover"]
    assert kinds(plan(view([record()], [holder("b1", **patient), holder("b2")]))) == []
    alone = plan(view([record(members=("b1",))], [holder("b1", **SILENT), holder("b2")]))
    assert alone.changes == ()
    assert "unavailable" in alone.waiting["r/b1/1"]


FENCED = record(state="RECOVERING", term=1, version=2)


@pytest.mark.parametrize(
    ("copies", "end"),
    [
        ({"b2": held(FENCED.id, 9)}, None),  # it has not noted the fence
        ({"b2": held(FENCED.id, 9, term=1)}, 9),
        ({"b1": held(FENCED.id, 7, term=1), "b2": held(FENCED.id, 9, term=1)}, 9),
        ({"b1": held(FENCED.id, 12), "b2": held(FENCED.id, 9, term=1)}, 9),  # what is beyond was not acknowledged
        ({"b1": held(FENCED.id, 12, confirmed=10), "b2": held(FENCED.id, 9, term=1)}, None),  # damage
        ({"b1": held(FENCED.id, 7), "b2": held(FENCED.id, 9, term=1, torn=True)}, None),  # undecidable yet
        ({"b1": held(FENCED.id, 7, term=1), "b2": held(FENCED.id, 9, term=1, torn=True)}, 9),
    ],
)
def test_a_ledger_ends_at_the_longest_fenced_copy_and_never_below_what_is_confirmed(copies, end):
    planned = plan(view([FENCED], [holder(name, each) for name, each in copies.items()]))
    if end is None:
        assert planned.changes == ()
        assert FENCED.id in planned.waiting
    else:
        (change,) = planned.changes
        assert (change.kind, change.records[0].end_number, change.records[0].term) == ("close", end, 1)


def test_a_fenced_member_with_nothing_of_the_last_fragment_ends_the_ledger_where_that_begins():
    fragments = (Fragment(0, (member("b1"), member("b2"))), Fragment(7, (member("b1"), member("b3")), 5))
    ledger = record(fragments=fragments, state="RECOVERING", term=1)
    empty = held(ledger.id, 0, term=1)
    (change,) = plan(view([ledger], [holder("b2", held(ledger.id, 8)), holder("b3", empty)])).changes
    closed = change.records[0]
    assert (closed.end_number, closed.end_offset) == (7, 5)
    assert closed.members == (member("b1"), member("b2"), member("b3")), "b2 is the only one to fetch from"


def test_most_instances_vanishing_at_once_is_not_acted_upon():
    holders = [holder("b1", **SILENT), holder("b2", **SILENT), holder("b3")]
    planned = plan(view([record(members=("b1", "b3"))], holders))
    assert planned.changes == ()
    assert "2 of 3" in planned.braked
    later = [holder(name, present=False, silent_since_ns=NOW - 70 * SECOND) for name in ("b1", "b2")]
    assert kinds(plan(view([record(members=("b1", "b3"))], [*later, holder("b3")]))) == ["recover"]


# -- copies --------------------------------------------------------------------------------------------------------

CLOSED = record(state="CLOSED", end_number=9, end_offset=9)


def test_a_lost_copy_is_made_anew_and_the_lost_member_forgotten_when_enough_are_complete():
    whole = held(CLOSED.id, 9)
    first = plan(view([CLOSED], [holder("b1", whole), holder("b3")]))
    assert set(first.changes[0].records[0].members) == {member("b1"), member("b2"), member("b3")}
    assert first.copies[CLOSED.id] == 1
    more = first.changes[0].records[0]
    fetching = plan(view([more], [holder("b1", whole), holder("b3", held(CLOSED.id, 4))]))
    assert fetching.changes == ()
    done = plan(view([more], [holder("b1", whole), holder("b3", whole)]))
    assert done.changes[0].records[0].members == (member("b1"), member("b3"))


def test_without_reports_nothing_is_dropped():
    three = record(members=("b1", "b2", "b3"), state="CLOSED", end_number=9, end_offset=9)
    mute = [holder(name, present=False, silent_since_ns=NOW) for name in ("b1", "b2", "b3")]
    assert plan(view([three], mute)).changes == ()


def test_only_its_dispatchers_word_lets_a_ledger_expire_and_it_is_forgotten_when_no_files_are_left():
    whole = held(CLOSED.id, 9)
    wrong = plan(view([CLOSED], [holder("b1", whole), holder("b2", whole, expired=(CLOSED.id,))]))
    assert kinds(wrong) == []
    told = plan(view([CLOSED], [holder("b1", whole, expired=(CLOSED.id,)), holder("b2", whole)]))
    assert kinds(told) == ["expire"]
    expired = told.changes[0].records[0]
    assert plan(view([expired], [holder("b1"), holder("b2", whole)])).forgotten == ()
    assert plan(view([expired], [holder("b1"), holder("b2", **SILENT)])).forgotten == ()
    assert plan(view([expired], [holder("b1"), holder("b2")])).forgotten == (expired,)


# -- dispatchers ---------------------------------------------------------------------------------------------------


def test_dispatch_moves_when_all_that_the_predecessor_wrote_is_closed_and_the_heir_holds_it():
    old, new = CLOSED, record("b1", 2)
    whole = held(old.id, 9)
    holders = [holder("b1", **SILENT), holder("b2", whole)]
    assert kinds(plan(view([old, new], holders))) == ["recover"]
    ended = msgspec.structs.replace(new, state="CLOSED", end_number=4, end_offset=4, created_ns=1)
    still = plan(view([old, ended], [holder("b1", **SILENT), holder("b2", whole, held(new.id, 3))]))
    assert "dispatch" not in kinds(still)
    moved = plan(view([old, ended], [holder("b1", **SILENT), holder("b2", whole, held(new.id, 4))]))
    (change,) = [each for each in moved.changes if each.kind == "dispatch"]
    assert [(each.id, each.dispatcher) for each in change.records] == [(old.id, "r/b2"), (new.id, "r/b2")]


def test_an_heir_that_holds_only_some_fetches_the_rest_first():
    first = record("b1", 1, ("b1", "b2"), state="CLOSED", end_number=2, end_offset=2, created_ns=1)
    second = record("b1", 2, ("b1", "b3"), state="CLOSED", end_number=2, end_offset=2, created_ns=2)
    holders = [
        holder("b1", **SILENT),
        holder("b2", held(first.id, 2)),
        holder("b3", held(second.id, 2)),
    ]
    planned = plan(view([first, second], holders))
    assert "dispatch" not in kinds(planned)
    (joined,) = [each.records[0] for each in planned.changes if each.records[0].id == second.id]
    assert {each.instance for each in joined.members} == {"r/b1", "r/b2", "r/b3"}


def test_what_only_the_lost_instance_had_is_unavailable_and_not_given_away():
    alone = record(members=("b1",), state="CLOSED", end_number=2, end_offset=2)
    planned = plan(view([alone], [holder("b2")]))
    assert "dispatch" not in kinds(planned)
    assert planned.waiting["r/b1"]
    assert planned.copies[alone.id] == 0


# -- drain ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [0, 1, 2])
def test_a_drain_hands_everything_over(replicas):
    world = World(["n1", "n1", "n2"], replicas=replicas)
    world.settle()
    for name in ("b1", "b2", "b3"):
        world.publish(name)
    world.instances["b1"].stage = "leaving"
    world.settle()
    assert "still writes" in unfinished_drain(world.view(), "r/b1")
    world.instances["b1"].stage = "closing"
    world.settle()
    assert unfinished_drain(world.view(), "r/b1") == ""
    assert all(each.dispatcher != "r/b1" for each in world.store.values())
    world.retire("b1")
    world.settle()
    assert all(each.instance != "r/b1" for r in world.store.values() for each in r.members)


# -- whatever happens ----------------------------------------------------------------------------------------------


def live_through(world, random, events):
    """Publishing, crashes, freezes, restarts, and a manager that is killed between any two of its steps."""
    for _ in range(events):
        name = random.choice(list(world.instances))
        match random.choices(["publish", "crash", "freeze", "start", "wait", "step"], weights=[40, 4, 4, 10, 10, 20]):
            case ["publish"]:
                world.publish(name)
            case ["crash"]:
                world.crash(name)
            case ["freeze"]:
                world.freeze(name)
            case ["start"]:
                world.start(name)
            case ["wait"]:
                world.now_ns += random.randint(1, 6) * SECOND
            case _:
                world.step(stop_after=random.choice([0, 1, 2, None, None, None]))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), replicas=st.sampled_from([0, 1, 2, 3]), nodes=st.integers(2, 5))
def test_whatever_happens_nothing_acknowledged_is_lost_and_it_ends_in_enough_copies(seed, replicas, nodes):
    random = Random(seed)
    world = World([f"n{number % 3}" for number in range(nodes)], replicas=replicas)
    wanted = replicas or 2
    live_through(world, random, 60)
    for name in world.instances:
        world.start(name)
    world.settle()
    if wanted > 1 and nodes >= wanted:
        loss = random.choice(["disk", "machine", "nothing"])
        if loss == "disk":
            world.lose_disk("b2")
            world.start("b2")
        elif loss == "machine":
            world.retire("b2")
            world.add("n2")
        live_through(world, random, 40)
        for each in world.instances.values():
            if each.registered:
                world.start(each.name)
    planned = world.settle()
    for name in world.instances:
        world.publish(name)
        world.publish(name)
    planned = world.settle()
    assert planned.waiting == {}
    assert not planned.braked
    assert set(planned.copies.values()) == {min(wanted, nodes)}
    for ledger, confirmed in world.acknowledged.items():
        dispatcher = world.instances[world.store[ledger].dispatcher.removeprefix("r/")]
        assert dispatcher.up
        assert set(range(confirmed)) <= dispatcher.disk[ledger].numbers
