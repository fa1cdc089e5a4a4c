"""What the manager says of groups, and what it is asked: seek, pause, delete, options, groups unknown here."""

from typing import Any

import msgspec
import pytest

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.group_spec import GroupRecord, GroupSpec
from fedbus.limits import Limits
from tests.broker.simulation import Node
from tests.broker.talk import LEDGER, ROOMY, Talk, settle, start
from tests.broker.test_groups import ack, deliveries, group_of, options


def definition(deleted: bool = False, **fields: Any) -> GroupRecord:
    spec = GroupSpec("g", [">"], p.EARLIEST, created_ns=5)
    return GroupRecord(msgspec.structs.replace(spec, **fields), deleted)


def apply(node: Node, *definitions: GroupRecord) -> None:
    node.handle(e.ApplyGroups(list(definitions)))


@pytest.mark.parametrize("crash", [False, True])
def test_a_seek_goes_back_and_forth_and_is_remembered(crash: bool):
    node = start()
    talk = Talk(node)
    talk.publish(b"0", b"1", b"2", b"3")
    apply(node, definition())
    talk.subscribe("g")
    settle(node)
    ack(talk, 0, 1, 2, 3, request=9)
    settle(node)
    talk.inbox.clear()
    apply(node, definition(generation=2, start=p.Start("cursor", cursor={LEDGER: 2})))
    assert talk.hear(p.Ended).code == "unavailable"
    settle(node)
    if crash:
        node.crash()
        node.start()
        talk = Talk(node)
    apply(node, definition())  # old news
    talk.subscribe("g")
    settle(node)
    assert [m.identity for m, _ in talk.inbox if isinstance(m, p.Subscribed)] == [(5, 2)]
    assert deliveries(talk) == [(b"2", 1), (b"3", 1)]
    apply(node, definition(generation=3, start=p.LATEST, tails={LEDGER: 4}))
    talk.publish(b"4")
    talk.subscribe("g")
    settle(node)
    assert deliveries(talk) == [(b"4", 1)]


def test_acknowledgements_from_before_a_seek_count_for_nothing():
    node = start()
    talk = Talk(node)
    talk.publish(b"0", b"1")
    apply(node, definition())
    talk.subscribe("g")
    settle(node)
    apply(node, definition(generation=2))
    ack(talk, 0, 1)
    settle(node)
    node.crash()
    node.start()
    talk = Talk(node)
    talk.subscribe("g")
    settle(node)
    assert talk.bodies() == [b"0", b"1"]


@pytest.mark.parametrize("crash", [False, True])
def test_a_deleted_group_is_gone_and_made_again_it_begins_anew(crash: bool):
    node = start()
    talk = Talk(node)
    talk.publish(b"0", b"1")
    apply(node, definition())
    talk.subscribe("g")
    settle(node)
    ack(talk, 0, 1, request=9)
    settle(node)
    talk.inbox.clear()
    apply(node, definition(deleted=True))
    assert talk.hear(p.Ended).code == "not_found"
    settle(node)
    if crash:
        node.crash()
        node.start()
    apply(node, definition(version=9, generation=9))
    assert not len(node.core.subscriptions.groups), "old news do not bring it back"
    apply(node, definition(created_ns=6))
    again = Talk(node, b"again")
    again.subscribe("g")
    settle(node)
    assert again.bodies() == [b"0", b"1"]


def test_a_change_that_is_not_stored_is_taken_back():
    node = start()
    talk = Talk(node)
    talk.publish(b"0", b"1")
    apply(node, definition())
    talk.subscribe("g")
    settle(node)
    ack(talk, 0, request=9)
    settle(node)
    node.disk.full = True
    for change in (definition(generation=2), definition(deleted=True), definition(version=3)):
        apply(node, change)
        node.commit()
        node.disk.full = True
        assert group_of(node).spec == definition().spec
    node.disk.full = False
    talk.inbox.clear()
    talk.subscribe("g")
    settle(node)
    assert talk.bodies() == [b"1"]


def test_a_paused_group_delivers_nothing_until_it_goes_on():
    node = start()
    talk = Talk(node)
    apply(node, definition())
    talk.subscribe("g")
    apply(node, definition(version=1, options=options(paused=True)))
    talk.publish(b"x")
    settle(node)
    assert not talk.bodies()
    settle(node)
    node.crash()
    node.start()
    talk = Talk(node)
    talk.subscribe("g")
    settle(node)
    assert not talk.bodies()
    apply(node, definition(version=2))
    settle(node)
    assert talk.bodies() == [b"x"]


def test_a_group_from_latest_wants_the_whole_of_ledgers_that_are_younger():
    node = start()
    talk = Talk(node)
    talk.publish(b"old")
    settle(node)
    node.crash()
    node.start()  # writes here/n0/1 from now on
    talk = Talk(node)
    talk.publish(b"new")
    settle(node)
    apply(node, definition(start=p.LATEST, tails={LEDGER: 1}))
    talk.subscribe("g")
    settle(node)
    assert talk.bodies() == [b"new"]


# -- asking the manager ------------------------------------------------------------------------------------------------


def managed() -> tuple[Node, Talk, list[e.RequestGroup]]:
    node = start(msgspec.structs.replace(ROOMY, groups=3))
    node.core.subscriptions.changes._managed = True
    asked: list[e.RequestGroup] = []
    execute = node._execute

    def executing(effects: list[e.Effect]) -> None:
        asked.extend(effect for effect in effects if isinstance(effect, e.RequestGroup))
        execute(effects)

    node._execute = executing  # type: ignore[method-assign]
    return node, Talk(node), asked


def test_a_subscriber_to_an_unknown_group_waits_for_the_manager():
    node, talk, asked = managed()
    talk.subscribe("g", options=options(max_deliveries=4))
    settle(node)
    assert not talk.heard(p.Subscribed)
    for _ in range(20):
        node.world.tick(100)
    assert 5 < len(asked) < 9, "asked again, now and then"
    assert asked[0].spec.options.max_deliveries == 4
    apply(node, GroupRecord(msgspec.structs.replace(asked[0].spec, created_ns=9)))
    settle(node)
    assert talk.hear(p.Subscribed).identity == (9, 1)


def test_the_manager_may_refuse_a_group_or_not_answer():
    node, talk, asked = managed()
    talk.subscribe("g")
    node.handle(e.GroupRefused("g", "conflict", "has other filters"))
    assert (refused := talk.hear(p.Refused)).code == "conflict"
    assert not refused.retryable
    talk.subscribe("g")
    for _ in range(30):
        node.world.tick(300)
        talk.say(p.Ping())
    [refused] = talk.heard(p.Refused)
    assert (refused.code, refused.retryable) == ("unavailable", True)
    talk.subscribe("g")
    talk.say(p.Unsubscribe(3, 1))
    count = len(asked)
    for _ in range(9):
        node.world.tick(300)
    assert len(asked) <= count + 1, "nobody waits any more"


def test_limits_hold_for_groups_that_the_manager_makes():
    node = start(msgspec.structs.replace(Limits(), groups=1))
    apply(node, definition(), definition(name="h"))
    assert [group.spec.name for group in node.core.subscriptions.groups] == ["g"]
    assert "1 groups" in node.core.subscriptions.changes.refused["h"]
