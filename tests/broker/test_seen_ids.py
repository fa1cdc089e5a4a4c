"""Topics with a dedup window: what was seen by source and id is not stored again, and the answer says where it is."""

import msgspec
import pytest

from fedbus.batch import Batch, BatchBuilder
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.policies import TopicRule
from fedbus.broker.seen_ids import SeenIds, SeenState
from tests.broker.simulation import Node
from tests.broker.talk import LEDGER, ROOMY, Talk, settle, start

WINDOW_MS = 1000
RULES = [TopicRule(filter="once.>", dedup_window_ms=WINDOW_MS)]


def batch_of(*ids: int, topic: str = "once.a", compressed: bool = False) -> Batch:
    builder = BatchBuilder()
    for id in ids:
        builder.add(topic, 0, b"event %d " % id * 20, id)
    return builder.build(compressed=compressed)


def publish(talk: Talk, *ids: int, topic: str = "once.a", compressed: bool = False, **fields: object) -> None:
    batch = batch_of(*ids, topic=topic, compressed=compressed)
    request = p.Publish(**{"request": 1, "producer": "p", "sequence": 1} | fields)
    talk.say(request, bytes(batch.index_bytes), bytes(batch.payload))


@pytest.fixture
def node() -> Node:
    node = start()
    node.handle(e.ApplyTopics(1, RULES))
    return node


def published(talk: Talk) -> p.Published:
    settle(talk.node)
    answer = talk.hear(p.Published)
    assert isinstance(answer, p.Published)
    return answer


@pytest.mark.parametrize("compressed", [False, True])
def test_what_was_seen_is_cut_out_and_the_answer_names_the_first_copies(node, compressed):
    talk, live = Talk(node), Talk(node, b"live")
    live.subscribe()
    publish(talk, 1, 2, 3, compressed=compressed)
    assert published(talk).first_copies == []
    publish(talk, 7, 2, 8, 7, 3, sequence=2, compressed=compressed)
    answer = published(talk)
    assert (answer.first_offset, answer.count, answer.duplicate) == (3, 2, False)
    copies = [p.FirstCopy(1, LEDGER, 1), p.FirstCopy(3, LEDGER, 3), p.FirstCopy(4, LEDGER, 2)]
    assert answer.first_copies == copies
    publish(talk, 7, 2, 8, 7, 3, sequence=2, compressed=compressed)
    again = published(talk)
    assert (again.first_offset, again.count, again.duplicate, again.first_copies) == (3, 2, True, copies)
    assert [body.split()[1] for body in live.bodies()] == [b"1", b"2", b"3", b"7", b"8"]
    assert node.core.counters()["events_seen_before"] == 3


def test_a_batch_of_nothing_new_is_acknowledged_when_the_first_copies_are_durable(node):
    talk = Talk(node)
    publish(talk, 1, 2)
    publish(talk, 2, 1, sequence=2)
    assert talk.heard(p.Published) == []
    settle(node)
    first, answer = talk.heard(p.Published)
    assert first.count == 2
    assert (answer.count, answer.first_copies) == (0, [p.FirstCopy(0, LEDGER, 1), p.FirstCopy(1, LEDGER, 0)])


def test_after_the_window_and_in_other_topics_everything_is_stored(node):
    talk = Talk(node)
    publish(talk, 1)
    assert published(talk).count == 1
    publish(talk, 1, topic="once.b", sequence=2)
    assert published(talk).count == 1
    publish(talk, 1, topic="every.a", sequence=3)
    publish(talk, 1, topic="every.a", sequence=4)
    settle(node)
    assert [answer.count for answer in talk.heard(p.Published)] == [1, 1]
    node.world.tick(WINDOW_MS + 1)
    publish(talk, 1, sequence=5)
    assert published(talk).first_offset == 4


@pytest.mark.parametrize("snapshots", [0, 2])
def test_it_survives_restarts(node, snapshots):
    talk = Talk(node)
    publish(talk, 1, 2)
    settle(node)
    for _ in range(1 + snapshots):
        node.crash()
        node.start()
        settle(node)
    node.handle(e.ApplyTopics(1, RULES))
    talk = Talk(node)
    publish(talk, 2, 5, sequence=2)
    assert published(talk).first_copies == [p.FirstCopy(0, LEDGER, 1)]


def test_what_the_disk_refused_was_not_seen(node):
    talk = Talk(node)
    node.disk.full = True
    publish(talk, 1)
    node.commit()
    node.disk.full = False
    talk.heard(p.Refused)
    publish(talk, 1)
    assert published(talk).count == 1


def test_memory_is_bounded_and_the_oldest_go_first():
    node = start(msgspec.structs.replace(ROOMY, dedup_events=3))
    node.handle(e.ApplyTopics(1, RULES))
    talk = Talk(node)
    publish(talk, 1, 2)
    publish(talk, 3, 4, sequence=2)
    settle(node)
    talk.heard(p.Published)
    assert len(node.core.intake.seen_ids) == 3
    publish(talk, 1, 4, sequence=3)
    answer = published(talk)
    assert (answer.count, answer.first_copies) == (1, [p.FirstCopy(1, LEDGER, 3)])


def test_a_snapshot_is_the_whole_state_and_merges_by_age():
    def seen() -> SeenIds:
        return SeenIds(lambda topic: WINDOW_MS, 10)

    one, other = seen(), seen()
    node = start()
    node.handle(e.ApplyTopics(1, RULES))
    talk = Talk(node)
    publish(talk, 1, 2)
    publish(talk, 3, sequence=2)
    settle(node)
    records = [record for record in node.disk.ledgers[LEDGER] if record.count]
    one.stored(LEDGER, records[0])
    other.stored(LEDGER, records[1])
    encoded = msgspec.msgpack.encode(one.state())
    other.restore(msgspec.msgpack.decode(encoded, type=SeenState))
    assert [other.find("once.a", hashed) for hashed in (1, 2, 3, 4)] == [(LEDGER, 0), (LEDGER, 1), (LEDGER, 2), None]


def test_an_id_column_that_does_not_fit_is_refused(node):
    talk = Talk(node)
    good = batch_of(1, 2)
    index = msgspec.msgpack.encode(msgspec.structs.replace(good.index, ids=good.index.ids[:8]))
    talk.say(p.Publish(1, "p", 1), index, bytes(good.payload))
    assert talk.hear(p.Refused).code == "protocol"
