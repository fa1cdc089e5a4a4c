"""Withheld batches word by word: who is asked, what goes on meanwhile, what is durable when somebody is answered."""

import msgspec
import pytest

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.record import Kind
from fedbus.broker.state import snapshot_decoder
from fedbus.limits import Limits
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from tests.broker.simulation import Node, World, events_in
from tests.broker.talk import ROOMY, Talk, settle

A, B = "here/a/0", "here/b/0"
TABLE = RoutingTable("f", "here", 1, [region_route("here", [InstanceRoute(f"here/{n}", f"tcp://{n}") for n in "ab"])])
FROM_A = {"producer": "p", "table_version": 1, "tried": [p.Tried(A, 1)], "attempt": 2, "idempotent": True}


def pair_of(world: World, limits: Limits) -> tuple[Node, Node]:
    nodes = (world.node("here", "a", limits), world.node("here", "b", limits))
    for node in nodes:
        node.handle(e.ApplyTable(1, TABLE.encode()))
    return nodes


@pytest.fixture
def pair() -> tuple[Node, Node]:
    return pair_of(World(), ROOMY)


def ask(*nodes: Node) -> None:
    """Let questions, answers and records get where they go."""
    for _ in range(8):
        nodes[0].world.tick(150)
        for node in nodes:
            settle(node)
        nodes[0].world.move_links()


def test_a_retry_elsewhere_is_acknowledged_and_delivered_once_its_first_try_is_rejected(pair):
    a, b = pair
    talk, live, group = Talk(b), Talk(b, b"live"), Talk(b, b"group")
    live.subscribe()
    group.subscribe("g")
    talk.publish(b"x", sequence=1, **FROM_A)
    settle(b)
    assert talk.hear(p.Published).ledger == B
    assert live.bodies() == group.bodies() == []
    assert b.core.counters()["withheld_batches"] == 1
    ask(a, b)
    assert live.bodies() == group.bodies() == [b"x"]
    assert b.core.counters()["withheld_batches"] == 0
    late = Talk(a)
    late.publish(b"x", producer="p", sequence=1, attempt=1)
    assert late.hear(p.Refused).code == "rejected_try"
    assert [record.kind for record in a.disk.ledgers[A]] == [Kind.SNAPSHOT, Kind.REJECTED]


def test_a_copy_of_what_is_found_elsewhere_is_void(pair):
    a, b = pair
    first, again, group = Talk(a), Talk(b), Talk(b, b"group")
    group.subscribe("g")
    first.publish(b"x", producer="p", sequence=1, attempt=1)
    again.publish(b"x", sequence=1, **FROM_A)
    again.publish(b"y", producer="p", sequence=2)
    settle(b)
    assert group.bodies() == [b"y"]
    ask(a, b)
    assert group.bodies() == []
    assert b.core.counters()["void_batches"] == 1
    live = Talk(b, b"live")
    live.subscribe()
    settle(b)
    assert live.bodies() == [b"y"]
    [state] = [part for g in b.core.subscriptions.groups for part in g.settlement.state()]
    group.say(p.Ack(1, [p.Settled(B, [(1, 2)])]))
    [state] = [part for g in b.core.subscriptions.groups for part in g.settlement.state()]
    assert state.ranges == [(0, 2)], "nothing waits for a void event"


def test_nobody_is_answered_for_before_it_is_durable(pair):
    a, b = pair
    Talk(b).publish(b"x", sequence=1, **FROM_A)
    settle(b)
    for _ in range(8):
        a.world.tick(150)
        settle(b)
        a.world.move_links()
    assert b.core.counters()["withheld_batches"] == 1, "a's promise is not on its disk"
    a.crash()
    a.start()
    a.handle(e.ApplyTable(1, TABLE.encode()))
    talk = Talk(a)
    talk.publish(b"x", producer="p", sequence=1, attempt=1)
    settle(a)
    assert isinstance(talk.hear(p.Published), p.Published), "a promise that was never given"
    for _ in range(4):
        ask(a, b)
    assert b.core.counters()["void_batches"] == 1


def test_a_group_goes_on_with_other_keys_and_keeps_the_order_of_this_one(pair):
    a, b = pair
    talk, group = Talk(b), Talk(b, b"group")
    group.subscribe("g")
    talk.publish(b"a1", b"b1", keys=(1, 2), sequence=1, **FROM_A)
    talk.publish(b"a2", b"c2", keys=(1, 3), producer="p", sequence=2, table_version=1)
    talk.publish(b"n", producer="p", sequence=3)
    talk.publish(b"b4", keys=(2,), producer="q", sequence=1, table_version=1)
    settle(b)
    assert group.bodies() == [b"c2", b"n"]
    ask(a, b)
    assert group.bodies() == [b"a1", b"b1", b"a2", b"b4"]


def test_streams_stop_at_it_so_that_their_cursor_passes_over_nothing(pair):
    a, b = pair
    talk, live = Talk(b), Talk(b, b"live")
    live.subscribe()
    talk.publish(b"x", sequence=1, **FROM_A)
    talk.publish(b"y", producer="p", sequence=2)
    settle(b)
    assert live.bodies() == []
    ask(a, b)
    assert live.bodies() == [b"x", b"y"]


def test_without_idempotence_it_is_delivered_at_once_and_says_so(pair):
    _, b = pair
    talk, live = Talk(b), Talk(b, b"live")
    live.subscribe()
    talk.publish(b"x", sequence=1, **FROM_A | {"idempotent": False})
    talk.publish(b"y", producer="p", sequence=2)
    settle(b)
    delivers = [message for message, _ in live.inbox if isinstance(message, p.Deliver)]
    assert [message.flags for message in delivers] == [p.POSSIBLE_DUPLICATE, 0]


def test_tries_in_ledgers_served_here_are_judged_at_once(pair):
    """The owner itself after a restart; and parts of a batch whose whole it has, positions included."""
    a, _ = pair
    talk = Talk(a)
    talk.publish(b"1", b"2", b"3", producer="p", sequence=5, attempt=1)
    settle(a)
    talk.heard(p.Published)
    a.crash()
    a.start()
    talk = Talk(a)
    talk.publish(b"2", producer="p", sequence=6, attempt=2, idempotent=True, tried=[p.Tried(A, 5)])
    talk.publish(b"9", producer="p", sequence=7, attempt=2, idempotent=True, tried=[p.Tried(A, 4)])
    settle(a)
    found, stored = talk.heard(p.Published)
    assert (found.ledger, found.first_offset, found.count, found.as_sequence, found.duplicate) == (A, 0, 3, 5, True)
    assert (stored.ledger, stored.first_offset, stored.duplicate) == ("here/a/1", 0, False)
    assert a.core.counters()["withheld_batches"] == 0
    talk.publish(b"8", b"9", producer="p", sequence=4, attempt=1)
    assert talk.hear(p.Refused).code == "rejected_try", "a part of it was stored"


def test_who_has_taken_the_owners_ledger_over_answers_in_its_place(pair):
    a, b = pair
    Talk(a).publish(b"x", producer="p", sequence=1, attempt=1)
    settle(a)
    a.crash()
    talk = Talk(b)
    talk.publish(b"x", sequence=1, **FROM_A)
    talk.publish(b"z", sequence=3, **FROM_A | {"tried": [p.Tried(A, 3)]})
    ask(a, b)
    assert b.core.counters()["withheld_batches"] == 2, "nobody knows"
    state = list(a.disk.state_records())
    b.disk.ledgers = {**a.disk.ledgers, **b.disk.ledgers}
    b.handle(e.Adopt({A: a.disk.end(A)}, state))
    ask(b)
    live = Talk(b, b"live")
    live.subscribe()
    settle(b)
    assert sorted(live.bodies()) == [b"x", b"z"]
    assert b.core.ledgers.withheld.resolved == {0: 1, 1: 1, 2: 0}


def test_what_the_owner_has_forgotten_is_released_as_a_possible_duplicate(pair):
    a, b = pair
    a.core.intake.dedup.own._floors["p"] = 10
    talk, live = Talk(b), Talk(b, b"live")
    live.subscribe()
    talk.publish(b"x", sequence=1, **FROM_A)
    ask(a, b)
    [deliver] = [message for message, _ in live.inbox if isinstance(message, p.Deliver)]
    assert deliver.flags == p.POSSIBLE_DUPLICATE


def test_it_survives_restarts_and_rolls_of_the_segment(pair):
    a, b = pair
    Talk(b).publish(b"x", sequence=1, **FROM_A)
    settle(b)
    for _ in range(2):
        b.crash()
        b.start()
        b.handle(e.ApplyTable(1, TABLE.encode()))
        settle(b)
    newest = [record for record in b.disk.ledgers["here/b/2"] if record.kind is Kind.SNAPSHOT][-1]
    [copy] = snapshot_decoder.decode(newest.payload).withheld.copies
    assert (copy.ledger, copy.tried) == (B, [p.Tried(A, 1)])
    live = Talk(b, b"live")
    live.subscribe()
    settle(b)
    assert live.bodies() == []
    ask(a, b)
    assert live.bodies() == [b"x"]


def test_links_pass_a_possible_duplicate_on_and_stop_at_what_is_withheld(pair):
    a, b = pair
    far = a.world.node("there", "far", ROOMY)
    far.hold_links([e.PeerLink(B, b.endpoint, [p.LinkFilter(">", 0)])])
    talk, live = Talk(b), Talk(far, b"live")
    live.subscribe()
    talk.publish(b"w", sequence=1, **FROM_A | {"idempotent": False})
    talk.publish(b"x", sequence=2, **FROM_A | {"tried": [p.Tried(A, 2)]})
    for _ in range(4):
        settle(b)
        settle(far)
        a.world.move_links()
    delivers = [(message, frames) for message, frames in live.inbox if isinstance(message, p.Deliver) and frames[0]]
    assert [(m.flags, events_in(frames)[0][2]) for m, frames in delivers] == [(p.POSSIBLE_DUPLICATE, b"w")]
    live.inbox.clear()
    ask(a, b, far)
    assert live.bodies() == [b"x"]


def test_one_question_has_a_bound(pair):
    a, _ = pair
    talk = Talk(a)
    talk.say(p.Reject(7, A, [p.Try("p", n, 2) for n in range(1025)]))
    assert talk.hear(p.Refused).code == "too_large"


def test_nobody_answers_for_a_ledger_it_does_not_serve(pair):
    """Also not for one of its own name: it may have come back without its disk."""
    a, _ = pair
    talk = Talk(a)
    for ledger in (B, "here/a/7"):
        talk.say(p.Reject(8, ledger, [p.Try("p", 1, 2)]))
        assert talk.hear(p.Refused).code == "not_found"


def test_what_nobody_can_answer_for_is_released_in_the_end_as_a_possible_duplicate():
    """The disk of the first try is lost for ever, and there was no copy of it."""
    world = World()
    a, b = pair_of(world, msgspec.structs.replace(ROOMY, withheld_max_ms=3000))
    a.crash()
    talk, live = Talk(b), Talk(b, b"live")
    live.subscribe()
    talk.publish(b"x", sequence=1, **FROM_A)
    ask(b)
    talk.publish(b"y", sequence=2, **FROM_A | {"tried": [p.Tried(A, 2)]})
    ask(b)
    assert live.bodies() == []
    ask(b)
    delivers = [(message, frames) for message, frames in live.inbox if isinstance(message, p.Deliver) and frames[0]]
    assert [(m.flags, events_in(frames)[0][2]) for m, frames in delivers] == [(p.POSSIBLE_DUPLICATE, b"x")]
    counters = b.core.counters()
    assert (counters["withheld_batches"], counters["uncertain_batches"]) == (1, 1), "each has its own time"
    ask(b)
    assert b.core.counters()["uncertain_batches"] == 2


def test_who_could_not_read_all_of_a_ledger_does_not_say_that_something_is_not_in_it(pair):
    """What could not be read may be repaired, and would then be delivered beside the retry."""
    a, b = pair
    a.core.folded.damaged([A])
    a.core.ledgers.snapshot_now(a.world.now_ns)
    a.handle(e.Tick())
    settle(a)
    a.crash()
    a.start()
    a.handle(e.ApplyTable(1, TABLE.encode()))
    talk, own = Talk(b), Talk(a)
    talk.publish(b"x", sequence=1, **FROM_A)
    own.publish(b"x", producer="p", sequence=1, tried=[p.Tried(A, 1)], attempt=3, idempotent=True)
    own.publish(b"y", producer="p", sequence=2, tried=[p.Tried("here/a/1", 2)], attempt=3, idempotent=True)
    settle(a)
    assert [copy.first_offset for copy in a.core.ledgers.withheld] == [0], "the later ledger was read"
    ask(a, b)
    assert b.core.counters()["uncertain_batches"] == a.core.counters()["uncertain_batches"] == 1


def test_who_serves_a_ledger_does_not_answer_before_the_later_ones_of_its_writer_are_folded_in(pair):
    """A batch may have arrived just after a roll."""
    a, _ = pair
    judge = a.core.intake.judge
    for lacking, serves in (("here/a/1", False), ("here/b/1", True), ("here/a/0", True)):
        judge.lacking = [lacking].copy
        assert judge.serves(A) is serves
    a.core.ledgers.retired.add("here/a/1")
    judge.lacking = ["here/a/1"].copy
    assert judge.serves(A)


@pytest.mark.parametrize("order", [1, -1])
def test_of_copies_by_two_directories_of_one_name_the_first_counts_whichever_was_folded_last(pair, order):
    """An instance came back without its disk, got the retry, and was lost too: one heir serves the ledgers of both."""
    _, b = pair
    first, again = World().node("here", "a", ROOMY), World().node("here", "a", ROOMY)
    Talk(first).publish(b"x", producer="p", sequence=1, attempt=1)
    settle(first)
    again.crash()
    again.disk.ledgers = {"here/a/1": []}
    again.start()
    Talk(again).publish(b"x", producer="p", sequence=1, attempt=2, idempotent=True, tried=[p.Tried(A, 1)])
    settle(again)
    assert len(again.core.ledgers.withheld) == 1
    b.disk.ledgers = first.disk.ledgers | again.disk.ledgers | b.disk.ledgers
    closed = {name: b.disk.end(name) for name in (A, "here/a/2")}
    state = [list(node.disk.state_records()) for node in (first, again)][::order]
    b.handle(e.Adopt(closed, [record for part in state for record in part]))
    ask(b)
    live = Talk(b, b"live")
    live.subscribe()
    settle(b)
    assert live.bodies() == [b"x"]
    assert b.core.counters()["void_batches"] == 1
