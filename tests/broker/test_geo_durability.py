"""Topics of which a second region has to have the events, word by word: who is answered, who gets what, and when."""

import msgspec
import pytest

from fedbus.batch import BatchBuilder
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.geo_batches import GeoBatch, GeoBatches, GeoState
from fedbus.broker.policies import DAY_MS, TopicRule
from fedbus.broker.record import Kind
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from tests.broker.simulation import Node, World
from tests.broker.talk import LEDGER, ROOMY, Talk, settle

SYNC = TopicRule(filter="s.>", durability="federation")
ONE = TopicRule(filter="one.>", durability="federation", regions=("far",))


def node_of(world: World, name: str = "n0", rules: tuple[TopicRule, ...] = (SYNC, ONE)) -> Node:
    node = world.node("here", name, ROOMY)
    node.topics = e.ApplyTopics(1, list(rules))
    node.handle(node.topics)
    return node


@pytest.fixture
def node() -> Node:
    return node_of(World())


class Puller(Talk):
    """A link of another region, which says itself what it has."""

    def __init__(self, node: Node, region: str = "near", *filters: p.LinkFilter, **pull: object) -> None:
        super().__init__(node, f"{region}{len(node.world.connections)}".encode())
        self.region = region
        self.say(p.Hello(1, 1, "peer", region, region))
        self.pull(*filters, **pull)

    def pull(self, *filters: p.LinkFilter, ledger: str = LEDGER, durable_to: int = 0, number: int = 1) -> None:
        wanted = list(filters) or [p.LinkFilter(">", 0)]
        self.say(p.Pull(number, number, ledger, wanted, 100, durable_to))

    def has(self, durable_to: int, number: int = 1) -> None:
        self.say(p.Credit(number, 0, durable_to))


def test_it_is_answered_and_dispatched_once_a_second_region_has_it(node):
    link, talk, live, group = Puller(node), Talk(node), Talk(node, b"live"), Talk(node, b"group")
    live.subscribe()
    group.subscribe("g")
    talk.publish(b"x", topic="s.a", producer="p", sequence=1)
    settle(node)
    assert link.bodies() == [b"x"], "that is how the second region gets it"
    assert live.bodies() == group.bodies() == talk.heard(p.Published) == []
    assert node.core.counters()["geo_waiting_events"] == 1
    node.world.tick(300)
    assert node.core.counters()["geo_waiting_ms"] == 300
    link.has(1)
    assert talk.hear(p.Published).first_offset == 0
    assert live.bodies() == group.bodies() == [b"x"]
    assert node.core.counters()["geo_waiting_events"] == node.core.counters()["geo_waiting_ms"] == 0


def test_without_a_region_that_pulls_it_nothing_is_stored(node):
    talk = Talk(node)
    for region, filters in (("", ()), ("near", ("a", "one.>"))):
        if region:
            Puller(node, region, *(p.LinkFilter(each, 0) for each in filters))
        talk.publish(b"x", topic="s.a", producer="p", sequence=1)
        refused = talk.hear(p.Refused)
        assert (refused.code, refused.retryable, refused.retry_after_ms) == ("unavailable", True, 500)
        assert "another region" in refused.detail
    talk.publish(b"x", topic="one.a", producer="p", sequence=1)
    assert "far" in talk.hear(p.Refused).detail, "a region that is none of its targets is not enough"
    settle(node)
    assert node.disk.end(LEDGER) == 0
    assert node.core.counters()["geo_refused"] == 3
    talk.publish(b"y", topic="a", producer="p", sequence=2)
    settle(node)
    talk.hear(p.Published)


def test_a_region_that_has_fallen_silent_is_none_to_rely_on(node):
    Puller(node)
    node.world.tick(2500)
    talk = Talk(node)
    talk.publish(b"x", topic="s.a")
    settle(node)
    assert talk.heard(p.Refused) == []
    node.world.tick(1000)
    talk.publish(b"y", topic="s.a")
    assert talk.hear(p.Refused).code == "unavailable"


def test_an_own_session_is_no_second_region(node):
    Puller(node, "here")
    talk = Talk(node)
    talk.publish(b"x", topic="s.a")
    assert talk.hear(p.Refused).code == "unavailable"


def test_what_began_later_says_nothing_of_what_was_before(node):
    link, talk = Puller(node), Talk(node)
    talk.publish(b"x", topic="s.a")
    settle(node)
    link.say(p.Goodbye())
    late = Puller(node, "near", p.LinkFilter("s.>", 1, since=1), durable_to=1)  # a live subscription's filter
    assert talk.heard(p.Published) == []
    late.pull(p.LinkFilter("a", 1), p.LinkFilter("s.>", 1, wanted=False), durable_to=1, number=2)
    assert talk.heard(p.Published) == []
    late.pull(p.LinkFilter("s.>", 1), durable_to=1, number=3)
    talk.hear(p.Published)


def test_a_retry_is_answered_when_the_first_try_would_be(node):
    link, talk = Puller(node), Talk(node)
    for request in (1, 2, 3):
        talk.publish(b"x", topic="s.a", producer="p", sequence=1, request=request)
        settle(node)
    again = Talk(node, b"again")
    again.publish(b"x", topic="s.a", producer="p", sequence=1, request=4)
    settle(node)
    assert talk.heard(p.Published) == again.heard(p.Published) == []
    link.has(1)
    assert talk.hear(p.Published).request == 3, "of one session the newest request"
    assert again.hear(p.Published).duplicate


def test_events_seen_before_are_answered_for_when_their_first_copies_count():
    node = node_of(World(), rules=(msgspec.structs.replace(SYNC, dedup_window_ms=DAY_MS),))
    link, talk = Puller(node), Talk(node)
    for sequence in (1, 2):
        talk.say(p.Publish(sequence, "p", sequence), *_batch(b"x", topic="s.a", identity=7))
        settle(node)
    assert talk.heard(p.Published) == []
    link.has(1)
    first, second = talk.heard(p.Published)
    assert (first.count, second.count, second.first_copies) == (1, 0, [p.FirstCopy(0, LEDGER, 0)])


def _batch(body: bytes, *, topic: str, identity: int) -> tuple[bytes, bytes]:
    builder = BatchBuilder()
    builder.add(topic, 0, body, identity)
    batch = builder.build()
    return bytes(batch.index_bytes), bytes(batch.payload)


def test_a_batch_of_several_topics_waits_for_all_of_them(node):
    near, far, talk = Puller(node), Puller(node, "far", p.LinkFilter("one.>", 0)), Talk(node)
    talk.publish(b"x", topic="one.a")
    settle(node)
    near.has(1)
    assert talk.heard(p.Published) == []
    far.has(1)
    talk.hear(p.Published)


def test_other_topics_and_keys_go_on_and_this_key_keeps_its_order(node):
    link, talk, group, live = Puller(node), Talk(node), Talk(node, b"group"), Talk(node, b"live")
    group.subscribe("g")
    live.subscribe(filters=("a",))
    talk.publish(b"k1", topic="s.a", keys=(1,), producer="p", sequence=1)
    talk.publish(b"k1 later", b"k2", topic="a", keys=(1, 2), producer="p", sequence=2)
    talk.publish(b"n", topic="a", producer="p", sequence=3)
    settle(node)
    assert group.bodies() == [b"k2", b"n"]
    assert live.bodies() == [b"k1 later", b"k2", b"n"], "nothing it wants is waited for"
    link.has(1)
    assert group.bodies() == [b"k1", b"k1 later"]


def test_too_many_that_wait_are_too_many():
    node = World().node("here", "n0", msgspec.structs.replace(ROOMY, geo_events=2))
    node.handle(e.ApplyTopics(1, [SYNC]))
    link, talk = Puller(node), Talk(node)
    talk.publish(b"1", b"2", b"3", topic="s.a")
    settle(node)
    talk.publish(b"4", topic="s.a")
    assert talk.hear(p.Refused).code == "overloaded"
    link.has(3)
    talk.hear(p.Published)
    talk.publish(b"4", topic="s.a")
    settle(node)
    assert talk.heard(p.Refused) == []


def test_what_is_damaged_before_it_has_crossed_is_nobodys_and_nobody_is_answered():
    node = World().node("here", "n0", msgspec.structs.replace(ROOMY, tail_cache_bytes=1))
    node.handle(e.ApplyTopics(1, [SYNC]))
    alive, talk = Puller(node, "near", p.LinkFilter("s.>", 5)), Talk(node)
    for sequence in (1, 2):
        talk.publish(b"%d" % sequence, topic="s.a", producer="p", sequence=sequence)
        settle(node)
    [first, _] = [record for record in node.disk.ledgers[LEDGER] if record.kind is Kind.EVENTS]
    node.disk.damaged.add((LEDGER, first.number))
    alive.pull(p.LinkFilter("s.>", 0), number=2)
    settle(node)
    assert alive.bodies() == [b"2"]
    alive.has(2, number=2)
    assert talk.hear(p.Published).first_offset == 1
    group = Talk(node, b"group")
    group.subscribe("g")
    settle(node)
    assert group.bodies() == [b"2"]
    node.world.tick(300)
    assert node.core.intake.geo._waiting == {}


# -- what a restart, another instance and the manager change -----------------------------------------------------------


def test_after_a_restart_it_waits_until_a_second_region_says_that_it_has_it(node):
    Puller(node)
    Talk(node).publish(b"x", topic="s.a", producer="p", sequence=1)
    settle(node)
    node.crash()
    node.start()
    settle(node)
    talk, group = Talk(node), Talk(node, b"group")
    group.subscribe("g")
    settle(node)
    talk.publish(b"x", topic="s.a", producer="p", sequence=1)
    settle(node)
    assert talk.heard(p.Published) == group.bodies() == []
    Puller(node, durable_to=1)
    assert talk.hear(p.Published).duplicate
    settle(node)
    assert group.bodies() == [b"x"]


@pytest.mark.parametrize("restarts", [1, 2])
def test_what_was_released_is_on_record(node, restarts):
    link, talk = Puller(node), Talk(node)
    talk.publish(b"x", topic="s.a", producer="p", sequence=1)
    talk.publish(b"y", topic="s.a", producer="p", sequence=2)
    settle(node)
    link.has(1)
    node.world.tick(300)
    settle(node)
    assert [record.kind for record in node.disk.ledgers[LEDGER]].count(Kind.GEO_DURABLE) == 1
    for _ in range(restarts):  # the second incarnation knows it from the snapshot of the first
        node.crash()
        node.start()
        settle(node)
    group = Talk(node, b"group")
    group.subscribe("g")
    settle(node)
    assert group.bodies() == [b"x"], "no other region has to be asked for it"
    assert node.core.counters()["geo_waiting_events"] == 1


def test_who_takes_a_ledger_over_keeps_the_promise():
    world = World()
    node, heir = node_of(world), node_of(world, "n1")
    Puller(node)
    Talk(node).publish(b"x", topic="s.a", producer="p", sequence=1)
    settle(node)
    node.crash()
    heir.disk.ledgers = {**node.disk.ledgers, **heir.disk.ledgers}
    heir.handle(e.Adopt({LEDGER: 1}, list(node.disk.state_records())))
    settle(heir)
    talk, group = Talk(heir), Talk(heir, b"group")
    group.subscribe("g")
    settle(heir)
    talk.publish(b"x", topic="s.a", producer="p", sequence=1, tried=[p.Tried(LEDGER, 1)], attempt=2)
    assert talk.heard(p.Published) == group.bodies() == []
    link = Puller(heir, "near")
    link.pull(ledger=LEDGER, durable_to=1, number=2)
    settle(heir)
    assert talk.hear(p.Published).ledger == LEDGER
    assert group.bodies() == [b"x"]


def test_a_ledger_that_was_closed_meanwhile_is_still_waited_for(node):
    Puller(node)
    Talk(node).publish(b"x", topic="s.a")
    settle(node)
    node.world.now_ns += 2 * DAY_MS * 1_000_000  # time for another ledger
    node.handle(e.Tick())
    settle(node)
    assert len(node.core.ledgers.closed) == 1
    group = Talk(node, b"group")
    group.subscribe("g")
    settle(node)
    assert group.bodies() == []
    Puller(node, durable_to=1)
    settle(node)
    assert group.bodies() == [b"x"]


def test_no_ledger_expires_while_something_in_it_waits(node):
    node.handle(e.ApplyTopics(2, [msgspec.structs.replace(SYNC, retention_ms=1000)]))
    Puller(node)
    Talk(node).publish(b"x", topic="s.a")
    settle(node)
    _age(node)
    assert LEDGER in node.core.ledgers.closed
    link = Puller(node, durable_to=1)
    link.say(p.Unsubscribe(9, 1))
    _age(node)
    assert LEDGER not in node.core.ledgers.closed


def _age(node: Node) -> None:
    for _ in range(5):
        node.world.now_ns += DAY_MS * 1_000_000
        node.handle(e.Tick())
        settle(node)
        node.survey()


def test_another_policy_releases_what_it_no_longer_asks_for(node):
    Puller(node, "far", p.LinkFilter("one.>", 0))
    talk = Talk(node)
    talk.publish(b"x", topic="one.a")
    settle(node)
    Puller(node, "near", durable_to=1)
    assert talk.heard(p.Published) == []
    node.handle(e.ApplyTopics(2, [TopicRule(filter="one.>", durability="federation", regions=("near", "far"))]))
    node.world.tick()
    talk.hear(p.Published)


def test_nothing_is_released_before_policies_are_known(node):
    Puller(node)
    Talk(node).publish(b"x", topic="s.a")
    settle(node)
    node.crash()
    node.topics = e.ApplyTopics(0, [])
    node.start()
    settle(node)
    Puller(node, "near")
    node.world.tick()
    assert node.core.counters()["geo_waiting_events"] == 1


def test_an_idempotent_retry_elsewhere_is_judged_when_the_first_try_counts():
    world = World()
    a, b = node_of(world, "a"), node_of(world, "b")
    routes = [InstanceRoute(f"here/{name}", f"tcp://{name}") for name in "ab"]
    table = RoutingTable("f", "here", 1, [region_route("here", routes)])
    for each in (a, b):
        each.handle(e.ApplyTable(1, table.encode()))
    first = Puller(a, ledger="here/a/0")
    Puller(b, "near", ledger="here/b/0")
    Talk(a, b"p").publish(b"x", topic="s.a", producer="p", sequence=1, attempt=1)
    talk = Talk(b, b"p")
    talk.publish(
        b"x", topic="s.a", producer="p", sequence=1, table_version=1, tried=[p.Tried("here/a/0", 1)], attempt=2,
        idempotent=True,
    )  # fmt: skip
    _ask(world, first)
    assert b.core.counters()["withheld_batches"] == 1, "its first try does not count yet"
    assert talk.heard(p.Published) == []
    first.has(1)
    _ask(world, first)
    assert b.core.counters()["void_batches"] == 1


def _ask(world: World, alive: Puller) -> None:
    for _ in range(8):
        world.tick(150)
        alive.say(p.Ping())
        for node in world.nodes.values():
            settle(node)
        world.move_links()


# -- the batches as such -----------------------------------------------------------------------------------------------


def test_what_a_later_state_does_not_name_was_released():
    batches = GeoBatches()
    old = [GeoBatch("l", at, at + 2, ["t"], 0) for at in (0, 4, 8)]
    batches.restore(GeoState(old, {"l": 10}))
    assert (batches.events, batches.until("l", 5), batches.until("l", 6)) == (6, 6, 0)
    batches.restore(GeoState([old[1]], {"l": 6, "other": 3}))
    assert [batch.first_offset for batch in batches] == [4, 8], "what is beyond it, it does not know"
    assert batches.state({"l": 12}) == GeoState([old[1], old[2]], {"l": 12})
