"""Topics pinned to regions: stored there alone, whoever asks, whenever the policy came."""

from __future__ import annotations

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.policies import TopicRule
from tests.broker.promises import stored
from tests.broker.simulation import Node
from tests.broker.talk import ROOMY, Talk, settle, start

PIN = TopicRule(filter="secret.>", forward="pinned", regions=("here",))


def pin(*nodes: Node, rule: TopicRule = PIN, version: int = 1) -> None:
    for node in nodes:
        node.handle(e.ApplyTopics(version, [rule]))


def two() -> tuple[Node, Node]:
    here = start()
    return here, here.world.node("there", "n1", ROOMY)


def pull(receiver: Node, origin: Node, *filters: str) -> None:
    wants = [p.LinkFilter(pattern, 0) for pattern in filters]
    receiver.hold_links([e.PeerLink("here/n0/0", origin.endpoint, wants)])


def linked(receiver: Node, origin: Node) -> list[str]:
    """Topics of what has crossed in the end."""
    for _ in range(20):
        receiver.world.move_links()
        settle(origin)
        settle(receiver)
        receiver.world.tick(500)
    return [topic for batch, _ in stored(receiver) if batch.origin for topic, _, _ in batch.batch.events()]


def test_a_batch_with_a_pinned_topic_is_refused_elsewhere_and_the_refusal_names_the_regions():
    _, there = two()
    pin(there)
    talk = Talk(there)
    talk.publish(b"x", topic="secret.a")
    refused = talk.hear(p.Refused)
    assert isinstance(refused, p.Refused)
    assert (refused.code, refused.retryable) == ("pinned", False)
    assert "here" in refused.detail
    talk.publish(b"x", topic="open.a")
    settle(there)
    talk.hear(p.Published)


def test_its_regions_take_it_and_offer_it_to_nobody_else():
    here, there = two()
    pin(here)
    talk = Talk(here)
    talk.publish(b"x", topic="secret.a")
    talk.publish(b"y", topic="open.a")
    pull(there, here, ">", "secret.a")
    assert linked(there, here) == ["open.a"]


def test_a_region_that_is_named_too_gets_it():
    here, there = two()
    pin(here, there, rule=TopicRule(filter="secret.>", forward="pinned", regions=("here", "there")))
    Talk(here).publish(b"x", topic="secret.a")
    pull(there, here, ">")
    assert linked(there, here) == ["secret.a"]


def test_a_pin_that_comes_later_holds_for_what_is_there_already():
    here, there = two()
    Talk(here).publish(b"x", topic="secret.a")
    pin(here)
    pull(there, here, ">")
    assert linked(there, here) == []


def test_a_pin_that_comes_while_a_link_stands_ends_the_flow():
    here, there = two()
    talk = Talk(here)
    talk.publish(b"x", topic="secret.a")
    pull(there, here, ">")
    assert linked(there, here) == ["secret.a"]
    pin(here)
    talk.publish(b"x", topic="secret.a")
    talk.publish(b"x", topic="open.a")
    assert linked(there, here) == ["secret.a", "open.a"]


def test_a_receiver_that_knows_of_the_pin_first_stores_only_what_may_be_there():
    here, there = two()
    pin(there)
    talk = Talk(here)
    for topic in ("secret.a", "open.a", "secret.b"):
        talk.publish(b"1", b"2", topic=topic)
    pull(there, here, ">")
    assert linked(there, here) == ["open.a", "open.a"]
    pin(there, rule=TopicRule(filter="other"), version=2)
    talk.publish(b"3", topic="secret.a")
    assert linked(there, here) == ["open.a", "open.a", "secret.a"]


def test_the_dead_letters_of_pinned_topics_stay_too():
    here, there = two()
    pin(here)
    talk = Talk(here)
    talk.publish(b"x", topic="secret.a")
    talk.publish(b"y", topic="open.a")
    talk.subscribe("g", options=p.GroupOptions(dead_letter_topic="failed.jobs"))
    settle(here)
    talk.say(p.Nack(1, [p.Settled("here/n0/0", [(0, 2)])], dead_letter="no"))
    settle(here)
    letters = [topic for batch, _ in stored(here) for topic, _, _ in batch.batch.events()].count("failed.jobs")
    assert letters == 2
    pull(there, here, ">")
    assert sorted(linked(there, here)) == ["failed.jobs", "open.a"]
