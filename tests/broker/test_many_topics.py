"""Many topics: what an instance remembers, writes and reports does not grow with their number."""

import msgspec

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.policies import TopicRule
from fedbus.broker.record import Kind
from fedbus.errors import NotFoundError
from tests.broker.talk import ROOMY, Talk, settle, start

LIMITS = msgspec.structs.replace(ROOMY, uncommitted_bytes=10**7, batch_bytes=10**6, segment_bytes=10**7)


def published(topics):
    """An instance with a group and a live subscriber, after an event on each of so many topics."""
    node = start(LIMITS)
    node.handle(e.ApplyTopics(1, [TopicRule(filter="t.>", retention_bytes=1)]))
    talk, live = Talk(node), Talk(node, b"live")
    talk.subscribe("g", ("t.*",), credit=0)
    live.subscribe("", ("t.>",), credit=10**6)
    settle(node)
    for number in range(2500):
        talk.publish(b"x", topic=f"t.n{number % topics}")
        if number % 100 == 0:
            settle(node)
    settle(node)
    node.core.ledgers.snapshot_now(node.world.now_ns)
    settle(node)
    return node


def test_reports_and_snapshots_do_not_grow_with_topics():
    few, many = published(1), published(2500)
    for node in (few, many):
        assert node.core.intake.events_in == 2500
    reports = [len(msgspec.msgpack.encode(node.core.status())) for node in (few, many)]
    assert reports[0] == reports[1]
    snapshots = [
        [record.size_bytes for record in node.disk.ledgers["here/n0/0"] if record.kind is Kind.SNAPSHOT][-1]
        for node in (few, many)
    ]
    assert snapshots[0] == snapshots[1]


def test_what_a_subscription_remembers_of_topics_is_bounded():
    many = published(2500)
    live = next(iter(many.core.subscriptions.streams))
    assert len(live.filters._answers) <= live.filters.remembered < 2500


def test_topics_are_told_to_who_asks():
    assert len(published(2500).core.intake.known_topics()) == 2500


def test_without_auto_create_an_event_for_an_unknown_topic_is_refused():
    node = start()
    node.handle(e.ApplyTopics(1, [TopicRule(filter="orders.>")], auto_create=False))
    talk = Talk(node)
    talk.publish(b"1", topic="bills")
    assert talk.hear(p.Refused).code == NotFoundError.code
    talk.publish(b"1", topic="orders.eu")
    settle(node)
    talk.hear(p.Published)
