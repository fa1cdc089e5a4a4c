"""Groups with a home region, word by word: who is refused, what is told, what is kept (protocol rule 13)."""

from msgspec.structs import replace

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.group_spec import GroupHome, GroupRecord, GroupSpec
from fedbus.broker.settled import GroupSettled
from fedbus.broker.sharing import PIECE_RANGES
from tests.broker.simulation import Node
from tests.broker.talk import LEDGER, Talk, settle, start

HERE, THERE = GroupHome("here", ("there",), 1), GroupHome("there", ("here",), 2)
SPEC = GroupSpec("g", [">"], p.EARLIEST, created_ns=1, home=HERE)
FOLLOWED = p.FollowedGroup("g", 1, 1)


def define(node: Node, **change: object) -> None:
    node.handle(e.ApplyGroups([GroupRecord(replace(SPEC, **change))]))
    settle(node)


def begin(**change: object) -> tuple[Node, Talk]:
    node = start()
    define(node, **change)
    return node, Talk(node, b"member")


def follow(node: Node, number: int = 1) -> Talk:
    """Another region's instance."""
    talk = Talk(node, b"follower%d" % number)
    talk.say(p.Hello(1, 1, "peer", "b1", "there"))
    talk.say(p.Follow(-1, number, [FOLLOWED]))
    return talk


def told(talk: Talk) -> list[tuple[int, int]]:
    """What a follower hears of the ledger here; it takes everything."""
    ranges: list[tuple[int, int]] = []
    while shared := talk.heard(p.Shared):
        for each in shared:
            for part in each.parts:
                ranges += [each for settled in part.settled if settled.ledger == LEDGER for each in settled.ranges]
            talk.say(p.Taken(each.subscription, each.number))
    return ranges


def tick(node: Node, milliseconds: int = 150) -> None:
    node.world.tick(milliseconds)
    settle(node)


def ack(talk: Talk, *offsets: int, request: int = 7) -> None:
    talk.say(p.Ack(1, [p.Settled(LEDGER, [(at, at + 1)]) for at in offsets], request))
    settle(talk.node)


def test_who_subscribes_away_from_home_is_told_where_it_is():
    _, member = begin(home=THERE)
    member.subscribe("g")
    refused = member.hear(p.Refused)
    assert (refused.code, refused.region, refused.retryable) == ("group_elsewhere", "there", True)


def test_members_are_told_where_the_home_went_and_their_late_acknowledgements_count():
    node, member = begin()
    member.subscribe("g")
    member.publish(b"1", b"2")
    settle(node)
    assert member.bodies() == [b"1", b"2"]
    define(node, home=THERE)
    ended = member.hear(p.Ended)
    assert (ended.code, ended.region) == ("group_elsewhere", "there")
    ack(member, 0)
    assert member.hear(p.Ok).request == 7
    follower = follow(node)
    tick(node)
    assert told(follower) == [(0, 1)]


def test_what_was_in_flight_comes_again_once_the_group_is_back():
    node, member = begin()
    member.publish(*[b"%d" % n for n in range(4)])
    member.subscribe("g")
    settle(node)
    assert len(member.bodies()) == 4
    ack(member, 1, 2)
    define(node, home=THERE)
    assert node.core.status().groups[0].outstanding == 0
    define(node, home=replace(HERE, term=3))
    member.inbox.clear()
    member.subscribe("g")
    settle(node)
    assert member.bodies() == [b"0", b"3"]


def test_an_older_term_changes_nothing():
    node, member = begin(home=THERE)
    define(node, version=9)
    member.subscribe("g")
    assert member.hear(p.Refused).region == "there"


def test_followers_hear_all_first_and_then_what_is_new():
    node, member = begin()
    member.subscribe("g")
    member.publish(b"1", b"2", b"3")
    settle(node)
    ack(member, 0)
    follower = follow(node)
    assert told(follower) == [(0, 1)]
    tick(node)
    assert told(follower) == []
    ack(member, 1)
    tick(node)
    assert told(follower) == [(0, 2)], "in one piece with what was settled before"
    assert node.core.status().groups[0].shared == {"there": (0, 0)}


def test_what_is_not_durable_elsewhere_is_visible():
    node, member = begin()
    member.subscribe("g")
    member.publish(b"1", b"2")
    settle(node)
    tick(node)
    tick(node, 1000)
    assert node.core.status().groups[0].shared == {"there": (-1, 1000)}, "nobody follows"
    follower = follow(node)
    tick(node)
    told(follower)
    ack(member, 0, 1)
    tick(node)
    tick(node, 500)
    events, age_ms = node.core.status().groups[0].shared["there"]
    assert events == 2
    assert age_ms >= 500
    told(follower)
    assert node.core.status().groups[0].shared == {"there": (0, 0)}


def test_a_large_state_is_told_in_bounded_pieces():
    node, _ = begin()
    ranges = [(2 * n, 2 * n + 1) for n in range(2 * PIECE_RANGES + 10)]
    group = node.core.subscriptions.groups.get("g")
    assert group is not None
    group.settlement.learn([p.Settled(LEDGER, ranges)], tell=False)
    follower = follow(node)
    [first] = follower.heard(p.Shared)
    assert len(first.parts[0].settled[0].ranges) == PIECE_RANGES
    follower.say(p.Taken(first.subscription, first.number))
    assert first.parts[0].settled[0].ranges + told(follower) == ranges


def test_what_another_generation_settled_says_nothing():
    node, member = begin(home=THERE, generation=2)
    member.publish(b"1")
    settle(node)
    source = e.PeerFollow("tcp://there", "", ("g",))
    node.handle(e.ApplyFollows([source]))
    welcome = p.Welcome(1, "there", "b1", "", 0, 1000, 1000, node.limits)
    node.handle(e.PeerReceived("tcp://there", [p.encode(welcome)]))
    for generation, settled in ((1, []), (2, [p.Settled(LEDGER, [(0, 1)])])):
        shared = p.Shared(1, generation, [GroupSettled("g", [p.Settled(LEDGER, [(0, 1)])], 1, generation)])
        node.handle(e.PeerReceived("tcp://there", [p.encode(shared)]))
        group = node.core.subscriptions.groups.get("g")
        assert group is not None
        assert group.settlement.state() == settled


def test_what_expires_at_home_is_settled_everywhere_and_what_expires_elsewhere_is_not():
    for home, expected in ((HERE, [(0, 2)]), (THERE, [])):
        node, member = begin(home=home)
        member.publish(b"1", b"2")
        settle(node)
        follower = follow(node)
        told(follower)
        group = node.core.subscriptions.groups.get("g")
        assert group is not None
        group.expire(LEDGER, 2)
        tick(node)
        tick(node)
        assert told(follower) == expected


def test_a_standby_is_left_with_nothing_to_scan_when_all_is_settled_at_home():
    node, member = begin(home=THERE)
    member.publish(*[b"%d" % n for n in range(30)])
    settle(node)
    group = node.core.subscriptions.groups.get("g")
    assert group is not None
    group.settlement.learn([p.Settled(LEDGER, [(0, 30)])], tell=False)
    tick(node)
    tick(node)
    assert (group.cursor.positions[LEDGER], node.core.status().groups[0].backlog) == (30, 0)
