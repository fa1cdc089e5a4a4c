"""Groups, one promise at a time: back-off, dead letters, bounds, members that come and go, changes by the manager."""

from typing import Any

import msgspec
import pytest

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.group import Group
from fedbus.broker.group_spec import default_dead_letter_topic
from fedbus.broker.record import Kind
from fedbus.event import Event
from fedbus.keys import key_hash
from tests.broker.simulation import Node, events_in
from tests.broker.talk import LEDGER, ROOMY, Talk, settle, start

KEYS = tuple(key_hash(f"key {n}") for n in range(40))


def group_of(node: Node, name: str = "g") -> Group:
    found = node.core.subscriptions.groups.get(name)
    assert found is not None
    return found


def options(**fields: Any) -> p.GroupOptions:
    return p.GroupOptions(**fields)


def deliveries(talk: Talk) -> list[tuple[bytes, int]]:
    """(body, number of the delivery) of what has come."""
    messages = [(m, frames) for m, frames in talk.inbox if isinstance(m, p.Deliver)]
    talk.inbox.clear()
    return [(body, m.delivery) for m, frames in messages for _, _, body in events_in(frames)]


def offsets(talk: Talk) -> list[int]:
    """Those of what has come."""
    found = [o for m, _ in talk.inbox if isinstance(m, p.Deliver) for start, end in m.ranges for o in range(start, end)]
    talk.inbox.clear()
    return found


def ack(talk: Talk, *offsets: int, ledger: str = LEDGER, request: int = 0) -> None:
    talk.say(p.Ack(1, [p.Settled(ledger, [(offset, offset + 1) for offset in offsets])], request))


def nack(talk: Talk, *offsets: int, **how: Any) -> None:
    talk.say(p.Nack(1, [p.Settled(LEDGER, [(offset, offset + 1) for offset in offsets])], **how))


def letters(node: Node, topic: str = "_fedbus.dead_letters.g") -> list[Event]:
    reader = Talk(node, b"letters")
    reader.subscribe(filters=(topic,))
    settle(node)
    return [Event.decode(body) for body in reader.bodies()]


# -- redelivery --------------------------------------------------------------------------------------------------------


def test_each_delivery_without_success_doubles_the_wait_for_the_next():
    node = start()
    talk = Talk(node)
    talk.publish(b"x")
    talk.subscribe("g", options=options(backoff_min_ms=100, backoff_max_ms=350))
    settle(node)
    assert deliveries(talk) == [(b"x", 1)]
    for number, wait_ms in enumerate([100, 200, 350, 350], start=2):
        nack(talk, 0)
        node.world.tick(wait_ms - 10)
        assert deliveries(talk) == []
        node.world.tick(20)
        assert deliveries(talk) == [(b"x", number)]


def test_a_nack_may_name_its_own_delay():
    node = start()
    talk = Talk(node)
    talk.publish(b"x")
    talk.subscribe("g", options=options(backoff_min_ms=5000))
    settle(node)
    talk.inbox.clear()
    nack(talk, 0, delay_ms=0)
    assert deliveries(talk) == [(b"x", 2)]
    nack(talk, 0, delay_ms=300)
    node.world.tick(290)
    assert deliveries(talk) == []
    node.world.tick(20)
    assert deliveries(talk) == [(b"x", 3)]


def test_extending_keeps_a_delivery_from_coming_again():
    node = start()
    talk = Talk(node)
    talk.publish(b"x", b"y")
    talk.subscribe("g", options=options(ack_deadline_ms=1000, backoff_min_ms=0))
    settle(node)
    talk.inbox.clear()
    for _ in range(5):
        node.world.tick(600)
        talk.say(p.Extend(1, [p.Settled(LEDGER, [(0, 1)])]))
    assert {body for body, _ in deliveries(talk)} == {b"y"}


# -- dead letters ------------------------------------------------------------------------------------------------------


def test_a_poison_event_becomes_a_dead_letter_and_the_rest_of_its_key_goes_on():
    node = start()
    talk = Talk(node)
    poison = Event(id="1", source="s", type="t", attributes={"subject": "me"}, payload=b"poison").encode()
    talk.publish(b"before", poison, b"after", keys=(7, 7, 7))
    talk.subscribe("g", options=options(max_deliveries=3, backoff_min_ms=0))
    settle(node)
    ack(talk, 0, 2)
    for _ in range(3):
        nack(talk, 1)
    settle(node)
    [letter] = letters(node)
    assert (letter.id, letter.payload) == ("1", b"poison")
    assert letter.attributes == {
        "subject": "me",
        "deadletterreason": "nack",
        "deadlettergroup": "g",
        "deadletterdeliveries": 3,
        "deadlettertopic": "a",
        "deadletterposition": f"{LEDGER}:1",
    }
    group = group_of(node)
    assert group.dead_letters.written == 1
    assert group.settlement.outstanding == 0
    talk.inbox.clear()
    talk.publish(b"next", keys=(7,))
    settle(node)
    assert deliveries(talk) == [(b"next", 1)]


@pytest.mark.parametrize("how", ["deadline", "lost session", "leave"])
def test_which_ends_of_a_delivery_count_as_without_success(how: str):
    node = start()
    talk = Talk(node)
    talk.publish(b"x")
    talk.subscribe("g", options=options(max_deliveries=1, ack_deadline_ms=500))
    settle(node)
    if how == "deadline":
        node.world.tick(600)
    elif how == "lost session":
        node.handle(e.Unroutable(b"s"))
    else:
        talk.say(p.Goodbye())
    settle(node)
    reasons = [letter.attributes["deadletterreason"] for letter in letters(node) if letter.attributes]
    assert reasons == {"deadline": ["expired"], "lost session": ["session_lost"], "leave": []}[how]


def test_a_consumer_may_give_an_event_up_at_once():
    node = start()
    talk = Talk(node)
    talk.publish(b"x", b"y")
    talk.subscribe("g", options=options(dead_letter_topic="failed.jobs"))
    settle(node)
    nack(talk, 1, dead_letter="no such customer")
    settle(node)
    [letter] = letters(node, "failed.jobs")
    assert letter.payload == b"y"
    assert letter.attributes is not None
    assert letter.attributes["deadletterreason"] == "no such customer"


def test_a_dead_letter_that_is_not_stored_leaves_the_event_unsettled():
    node = start()
    talk = Talk(node)
    talk.publish(b"x")
    talk.subscribe("g", options=options(max_deliveries=1))
    settle(node)
    node.disk.full = True
    nack(talk, 0)
    node.commit()
    group = group_of(node)
    assert group.settlement.outstanding == 1
    assert group.dead_letters.written == 0
    node.disk.full = False
    node.world.tick()
    settle(node)
    assert group.dead_letters.written == 1
    assert len(letters(node)) == 1


def test_a_crash_between_dead_letter_and_settlement_repeats_it_and_never_loses_it():
    node = start()
    talk = Talk(node)
    talk.publish(b"x")
    talk.subscribe("g", options=options(max_deliveries=1))
    settle(node)
    nack(talk, 0)
    node.commit()  # the letter is durable; its settlement would leave with the next tick
    node.crash()
    node.start()
    again = Talk(node, b"again")
    again.subscribe("g")
    settle(node)
    assert b"x" in again.bodies()
    assert len(letters(node)) == 1


def test_a_snapshot_that_goes_before_a_dead_letter_still_knows_of_the_event():
    node = start(msgspec.structs.replace(ROOMY, segment_bytes=2000))
    talk = Talk(node)
    talk.publish(b"x")
    talk.subscribe("g", options=options(max_deliveries=1))
    settle(node)
    talk.publish(b"y" * 1900)  # the segment is full
    settle(node)
    nack(talk, 0)
    kinds = [write.record.kind for write in node.disk.queue if isinstance(write, e.Write)]
    at = kinds.index(Kind.SNAPSHOT)
    assert Kind.EVENTS in kinds[at:]
    node.crash(survivors=at + 1)
    node.start()
    again = Talk(node, b"again")
    again.subscribe("g")
    settle(node)
    assert b"x" in again.bodies()


def test_a_group_s_own_dead_letters_do_not_circle():
    node = start()
    talk = Talk(node)
    talk.publish(b"x")
    talk.subscribe("g", options=options(max_deliveries=1, dead_letter_topic="failed"))
    settle(node)
    nack(talk, 0)
    settle(node)
    nack(talk, 1)  # the dead letter itself, which the filter takes
    settle(node)
    assert len(letters(node, "failed")) == 1
    assert group_of(node).settlement.outstanding == 0


@pytest.mark.parametrize(
    ("group", "topic"),
    [
        ("billing", "_fedbus.dead_letters.billing"),
        ("a b", "_fedbus.dead_letters.a_b-"),
        ("x" * 250, "_fedbus.dead_letters." + "x" * 200 + "-"),
    ],
)
def test_every_group_has_a_dead_letter_topic_of_its_own(group: str, topic: str):
    found = default_dead_letter_topic(group)
    assert found.startswith(topic)
    assert len(found) <= 255
    assert default_dead_letter_topic(group + "é") != found


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"dead_letter_topic": "_fedbus.mine"}, "invalid_topic"),
        ({"dead_letter_topic": "a..b"}, "invalid_topic"),
        ({"max_deliveries": -1}, "invalid_event"),
        ({"backoff_min_ms": 10, "backoff_max_ms": 5}, "invalid_event"),
    ],
)
def test_options_that_cannot_be_are_refused(fields: dict[str, Any], code: str):
    talk = Talk(start())
    talk.subscribe("g", options=options(**fields))
    assert talk.hear(p.Refused).code == code


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_member_holds_no_more_than_the_group_allows_whatever_credit_it_gives():
    node = start()
    talk = Talk(node)
    talk.publish(*[b"x"] * 30)
    talk.subscribe("g", credit=1000, options=options(max_in_flight=10))
    settle(node)
    assert len(talk.bodies()) == 10
    talk.say(p.Credit(1, 1000))
    assert not talk.bodies()
    ack(talk, 3, 5)
    assert len(talk.bodies()) == 2
    talk.say(p.Extend(1, [p.Settled(LEDGER, [(0, 2)])]))
    nack(talk, 7, delay_ms=0)
    assert deliveries(talk) == [(b"x", 2)]
    [member] = group_of(node).members
    assert member.held_events == 10


def test_a_member_that_never_acknowledges_loses_its_keys_to_the_others_until_it_does():
    node = start()
    publisher = Talk(node, b"publisher")
    dead, alive = Talk(node, b"dead"), Talk(node, b"alive")
    for talk in (dead, alive):
        talk.subscribe("g", credit=1000, options=options(ack_deadline_ms=500, backoff_min_ms=0))
    settle(node)
    publisher.publish(*[b"first"] * 40, keys=KEYS)
    settle(node)
    held = offsets(dead)
    assert len(held) > 5
    ack(alive, *offsets(alive))
    node.world.tick(600)
    publisher.publish(*[b"second"] * 40, keys=KEYS)
    settle(node)
    assert not dead.bodies()
    assert len(alive.bodies()) == len(held) + 40
    ack(dead, held[0])
    publisher.publish(*[b"third"] * 40, keys=KEYS)
    assert not any(member.silent for member in group_of(node).members)


def test_what_runs_into_its_deadline_goes_to_another_member_before_what_is_newer():
    node = start()
    publisher, old, new = Talk(node, b"publisher"), Talk(node, b"old"), Talk(node, b"new")
    wait = options(ack_deadline_ms=500, backoff_min_ms=200)
    old.subscribe("g", credit=1000, options=wait)
    settle(node)
    publisher.publish(*[b"1"] * 40, keys=KEYS)
    settle(node)
    new.subscribe("g", credit=1000, options=wait)
    publisher.publish(*[b"2"] * 40, keys=KEYS)
    settle(node)
    assert new.bodies() == []
    for _ in range(4):
        node.world.tick(200)
    came = new.bodies()
    assert came[0] == b"1"
    assert came == sorted(came)
    assert b"2" in came


# -- members and keys --------------------------------------------------------------------------------------------------


def test_a_key_moves_to_another_member_only_when_the_old_one_is_done_with_it():
    node = start()
    publisher, old, new = Talk(node, b"publisher"), Talk(node, b"old"), Talk(node, b"new")
    old.subscribe("g", credit=1000)
    settle(node)
    publisher.publish(*[b"1"] * 40, keys=KEYS)
    settle(node)
    assert len(old.bodies()) == 40
    new.subscribe("g", credit=1000)
    publisher.publish(*[b"2"] * 40, keys=KEYS)
    settle(node)
    stays = len(old.bodies())
    assert 5 < stays < 35, "keys that did not move go on"
    assert new.bodies() == [], "those that did wait"
    group = group_of(node)
    moved = [n for n in range(40) if group.barrier.members_hold >> (KEYS[n] & 4095) & 1]
    assert len(moved) == 40 - stays
    ack(old, moved[0])
    assert new.bodies() == [b"2"]
    nack(old, moved[1], delay_ms=5000)
    assert new.bodies() == [b"2"], "given back is not held"
    old.say(p.Goodbye())
    assert len(new.bodies()) == (40 - 2) + (len(moved) - 2) + stays, "and its end frees all"


def test_an_extended_delivery_still_holds_its_key():
    node = start()
    publisher, old, new = Talk(node, b"publisher"), Talk(node, b"old"), Talk(node, b"new")
    old.subscribe("g", credit=1000)
    settle(node)
    publisher.publish(*[b"1"] * 40, keys=KEYS)
    settle(node)
    new.subscribe("g", credit=1000)
    settle(node)
    old.say(p.Extend(1, [p.Settled(LEDGER, [(0, 40)])]))
    publisher.publish(*[b"2"] * 40, keys=KEYS)
    settle(node)
    assert b"2" not in new.bodies()


def test_of_one_name_only_the_newest_session_is_a_member():
    node = start()
    first, second = Talk(node, b"first"), Talk(node, b"second")
    first.publish(b"x")
    first.subscribe("g", member="me")
    settle(node)
    first.inbox.clear()
    second.subscribe("g", member="me")
    settle(node)
    assert first.hear(p.Ended).code == "unavailable"
    assert deliveries(second) == [(b"x", 2)]
    assert group_of(node).members.names() == ["me"]
