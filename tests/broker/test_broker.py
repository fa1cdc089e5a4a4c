"""The broker core, one promise at a time; what happens in combination is in ``test_simulation.py``."""

import msgspec
import pytest

from fedbus.batch import Batch, BatchBuilder
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.record import Kind
from fedbus.keys import key_hash
from fedbus.limits import Limits
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from tests.broker.simulation import SMALL, World
from tests.broker.talk import LEDGER, ROOMY, Talk, settle, start


def test_nothing_is_answered_or_delivered_before_it_is_durable():
    node = start()
    talk = Talk(node)
    talk.subscribe()
    talk.publish(b"one")
    assert not talk.heard(p.Published | p.Deliver)  # type: ignore[arg-type]
    node.commit()
    kinds = [type(message) for message, _ in talk.inbox]
    assert kinds == [p.Published, p.Deliver]


@pytest.mark.parametrize(
    ("topic", "code"), [("_fedbus.x", "invalid_topic"), ("a b", "protocol"), ("a..b", "protocol"), ("", "protocol")]
)
def test_topics_that_users_may_not_publish_to_are_refused(topic: str, code: str):
    talk = Talk(start())
    talk.publish(b"x", topic=topic)
    assert talk.hear(p.Refused).code == code


def test_limits_of_a_batch_are_checked():
    talk = Talk(start(Limits(batch_events=3, event_bytes=100, attributes_bytes=10, batch_bytes=1000, name_bytes=8)))
    for bodies, request in [
        ([b"x"] * 4, {}),
        ([b"x" * 111], {}),
        ([b"x" * 90] * 11, {}),
        ([b"x"], {"producer": "p" * 9}),
    ]:
        talk.publish(*bodies, **request)
        assert talk.hear(p.Refused).code == "too_large", (len(bodies), request)
    talk.publish(b"x" * 100)
    assert not talk.heard(p.Refused)


def test_a_repeat_is_answered_also_while_draining_and_when_the_queue_is_full():
    node = start()
    talk = Talk(node)
    talk.publish(b"one", producer="p", sequence=1)
    node.commit()
    talk.inbox.clear()
    node.handle(e.Drain())
    talk.publish(b"one", producer="p", sequence=1)
    assert talk.hear(p.Published).duplicate
    talk.publish(b"two", producer="p", sequence=2)
    refused = talk.hear(p.Refused)
    assert (refused.code, refused.retryable) == ("draining", True)


def test_a_full_queue_refuses_with_a_hint_and_keeps_the_order_of_keys():
    node = start(SMALL)
    talk = Talk(node)
    for sequence in range(1, 6):
        talk.publish(b"x" * 1500, keys=(7,), producer="p", sequence=sequence, request=sequence)
    refused = [message.request for message in talk.heard(p.Refused)]
    assert refused
    node.commit()
    talk.inbox.clear()
    talk.publish(b"later", keys=(7,), producer="p", sequence=9)
    assert talk.hear(p.Refused).code == "overloaded"
    talk.publish(b"unkeyed", producer="p", sequence=10)
    for sequence in (*refused, 9, 11):
        talk.publish(b"again", keys=(7,), producer="p", sequence=sequence)
    node.commit()
    assert len(talk.heard(p.Published)) == len(refused) + 3


def test_foreign_keys_are_refused_unless_their_owner_is_named_unreachable():
    node = start()
    talk = Talk(node)
    routes = [InstanceRoute("n0", "tcp://x:1"), InstanceRoute("n1", "tcp://x:2")]
    table = RoutingTable("f", "here", 1, [region_route("here", routes)])
    node.handle(e.ApplyTable(1, table.encode()))
    own, foreign = (next(k for k in range(1, 99) if table.regions[0].owner_places()[k] == place) for place in (0, 1))
    talk.publish(b"x", keys=(own,))
    assert not talk.heard(p.Refused)
    talk.publish(b"x", keys=(foreign,))
    assert talk.hear(p.Refused).code == "wrong_owner"
    talk.publish(b"x", keys=(foreign,), unreachable=["n1"])
    talk.publish(b"x", keys=(foreign,), table_version=1)  # placed by the same table: the sender knows
    assert not talk.heard(p.Refused)


def test_a_group_that_could_not_be_recorded_was_never_there():
    node = start()
    talk, other = Talk(node), Talk(node, b"other")
    node.commit()
    talk.publish(b"one")
    node.commit()
    node.disk.full = True
    talk.subscribe("g")
    other.subscribe("g")
    assert not talk.heard(p.Subscribed)
    assert not other.heard(p.Subscribed), "the second member waits for the group's record too"
    node.commit()
    assert (talk.hear(p.Refused).code, other.hear(p.Refused).code) == ("storage", "storage")
    assert not len(node.core.subscriptions.groups)
    node.disk.full = False
    talk.subscribe("g")
    settle(node)
    assert [type(message) for message, _ in talk.inbox] == [p.Deliver, p.Subscribed]


def test_a_failed_ledger_refuses_whoever_would_wait_for_it_and_goes_on_reading():
    node = start()
    talk, late = Talk(node), Talk(node, b"late")
    talk.publish(b"one")
    talk.subscribe("g")
    settle(node)
    talk.inbox.clear()
    talk.publish(b"two", request=5)
    talk.say(p.Ack(1, [p.Settled(LEDGER, [(0, 1)])], 6))
    node.disk.failed = True
    node.commit()
    assert {message.request for message in talk.heard(p.Refused)} == {5, 6}
    talk.publish(b"three", request=7)
    talk.say(p.Ack(1, [p.Settled(LEDGER, [(0, 1)])], 8))
    talk.say(p.Subscribe(9, 3, [">"], p.EARLIEST, 5, "new group"))
    talk.say(p.Ack(1, [p.Settled(LEDGER, [(0, 1)])]))
    refused = talk.heard(p.Refused)
    assert [(m.request, m.code, m.retryable) for m in refused] == [(n, "storage", True) for n in (7, 8, 9)]
    late.subscribe()
    node.world.tick()
    assert late.bodies() == [b"one"]
    assert node.core.status().failed
    assert node.core.state == "failed"
    for _ in range(3):
        node.world.tick(1000)
        node.commit()
    assert not node.disk.queue, "nothing is written any more"


def test_acknowledgements_that_are_waited_for_share_records():
    node = start()
    talk = Talk(node)
    talk.publish(*[b"x"] * 40)
    talk.subscribe("g")
    settle(node)
    talk.inbox.clear()
    for at in range(40):
        talk.say(p.Ack(1, [p.Settled(LEDGER, [(at, at + 1)])], at + 1))
    assert len(node.disk.queue) == 1
    node.commit()
    assert len(talk.heard(p.Ok)) == 1
    node.commit()
    assert len(talk.heard(p.Ok)) == 39


@pytest.mark.parametrize("ranges", [[(-10, 1)], [(0, 10**12)], [(3, 1)], [(0, 1), (0, 1)], [(-5, -1)]])
def test_acknowledgements_of_what_was_never_delivered_change_nothing(ranges: list[tuple[int, int]]):
    node = start()
    talk = Talk(node)
    talk.publish(b"one", b"two")
    talk.subscribe("g", credit=1)
    settle(node)
    talk.say(p.Ack(1, [p.Settled(LEDGER, ranges), p.Settled("no/ledger/0", [(0, 5)])]))
    group = node.core.subscriptions.groups.get("g")
    assert group is not None
    assert 0 <= group.settlement.outstanding <= 2
    assert all(part.ledger == LEDGER for part in group.settlement.state())


def test_a_start_in_time_compares_with_when_events_were_stored():
    node = start()
    talk = Talk(node)
    talk.publish(b"before")
    node.world.tick(1000)
    moment_ms = node.world.now_ns // 1_000_000
    talk.publish(b"after")
    settle(node)
    talk.inbox.clear()
    talk.subscribe(start=p.Start("time", time_ms=moment_ms))
    assert talk.bodies() == [b"after"]
    talk.subscribe("g", start=p.Start("time", time_ms=moment_ms))
    settle(node)
    assert talk.bodies() == [b"after"]


def test_a_wildcard_does_not_reach_the_bus_s_own_topics():
    node = start()
    talk = Talk(node)
    builder = BatchBuilder()
    builder.add("_fedbus.dead", 0, b"own")
    builder.add("a", 0, b"users")
    batch: Batch = builder.build()
    node.core.ledgers.append(  # as the bus itself would write it
        kind=Kind.EVENTS,
        now_ns=node.world.now_ns,
        count=2,
        index=batch.index_bytes,
        payload=batch.payload,
    )
    talk.publish(b"flush")
    settle(node)
    talk.inbox.clear()
    talk.subscribe()
    assert talk.bodies() == [b"users", b"flush"]
    talk.subscribe(filters=("_fedbus.>",))
    assert talk.bodies() == [b"own"]


def test_files_that_cannot_be_read_are_tried_again_from_time_to_time_only():
    node = start(SMALL)
    talk = Talk(node)
    for _ in range(10):
        talk.publish(b"x" * 100)
        node.commit()
    talk.inbox.clear()
    talk.subscribe()
    reads = 0
    for _ in range(100):
        if node.reads:
            reads += 1
            read = node.reads.popleft()
            node.handle(e.Records(read.token, [], read.offset))
        node.world.tick()
        talk.say(p.Ping())
    assert 2 <= reads <= 5
    settle(node)
    for _ in range(60):
        node.world.tick()
        settle(node)
    assert len(talk.bodies()) == 10


def test_a_member_without_credit_holds_up_its_own_keys_only():
    node = start()
    publisher = Talk(node, b"publisher")
    slow, quick = Talk(node, b"slow"), Talk(node, b"quick")
    slow.subscribe("g", credit=1)
    quick.subscribe("g", credit=1000)
    settle(node)
    keys = tuple(key_hash(f"key {n}") for n in range(40))
    for turn in range(5):
        publisher.publish(*[f"{turn}".encode()] * 40, keys=keys)
        settle(node)
    got, late = quick.bodies(), slow.bodies()
    assert len(late) == 1
    assert len(got) > 50
    assert len(got) % 5 == 0, "the other's keys went on through all turns"
    slow.say(p.Credit(1, 1000))
    rest = slow.bodies()
    assert len(late) + len(rest) + len(got) == 200
    assert [*late, *rest] == sorted([*late, *rest]), "in the order in which they were published"


def test_a_member_s_end_gives_its_parked_events_to_the_others():
    node = start()
    publisher = Talk(node, b"publisher")
    slow, quick = Talk(node, b"slow"), Talk(node, b"quick")
    slow.subscribe("g", credit=1)
    quick.subscribe("g", credit=1000)
    settle(node)
    keys = tuple(key_hash(f"key {n}") for n in range(40))
    publisher.publish(*[b"x"] * 40, keys=keys)
    settle(node)
    assert len(quick.bodies()) < 40
    slow.say(p.Goodbye())
    assert len(quick.bodies()) > 1
    group = node.core.subscriptions.groups.get("g")
    assert group is not None
    assert group.members.names() == ["quick"]
    assert not group.deliveries.queued.waiting


def test_a_link_pulls_no_more_than_its_window_of_bytes():
    node = start(msgspec.structs.replace(ROOMY, link_window_bytes=1000))
    talk = Talk(node)
    for _ in range(10):
        talk.publish(b"x" * 400)
        node.commit()
    talk.inbox.clear()
    talk.say(p.Pull(1, 1, LEDGER, [p.LinkFilter(">", 0)], 10_000))
    assert len(talk.bodies()) == 3
    talk.say(p.Credit(1, 1))
    assert len(talk.bodies()) == 1


def test_a_session_in_silence_ends_and_what_waits_for_it_is_dropped():
    node = start()
    talk = Talk(node)
    talk.subscribe("g")
    settle(node)
    effects = node.core.handle(e.Tick(), node.world.now_ns + 11_000_000_000)
    assert e.Forget(b"s") in effects
    assert not len(node.core.sessions)


def test_an_adopted_ledger_is_dispatched_from_where_its_own_instance_stood():
    world = World()
    gone, heir = world.node("here", "gone", ROOMY), world.node("here", "heir", ROOMY)
    talk = Talk(gone)
    talk.publish(b"1", b"2", b"3", b"4")
    talk.subscribe("g")
    settle(gone)
    talk.say(p.Ack(1, [p.Settled("here/gone/0", [(0, 1), (2, 3)])], 9))
    settle(gone)
    gone.crash()
    member, live = Talk(heir, b"member"), Talk(heir, b"live")
    member.subscribe("g")
    live.subscribe()
    settle(heir)
    member.inbox.clear()
    heir.disk.ledgers = gone.disk.ledgers | heir.disk.ledgers
    heir.handle(e.Adopt({"here/gone/0": 4}, list(gone.disk.state_records())))
    settle(heir)
    assert member.bodies() == [b"2", b"4"]
    assert live.hear(p.Ended).code == "unavailable"
    heir.commit()
    heir.crash()
    heir.start()
    again = Talk(heir, b"again")
    again.subscribe("g")
    settle(heir)
    assert again.bodies() == [b"2", b"4"]


def test_too_many_of_anything_is_refused():
    node = start(msgspec.structs.replace(ROOMY, subscriptions_per_session=2, members_per_group=1, groups=1, sessions=2))
    talk, second = Talk(node), Talk(node, b"second")
    talk.subscribe("g")
    settle(node)
    talk.inbox.clear()
    second.subscribe("g")
    assert second.hear(p.Refused).code == "overloaded"
    second.subscribe("h")
    assert second.hear(p.Refused).code == "overloaded"
    for number in (2, 3):
        talk.say(p.Subscribe(number, number, [">"], p.LATEST, 1))
    assert [message.request for message in talk.heard(p.Refused)] == [3]
    third = node.world.connect(node, b"third")
    node.receive(b"third", p.Hello(1, 1, "client", "third"))
    assert third[0][0].code == "overloaded"  # type: ignore[attr-defined]
