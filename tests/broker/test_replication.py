"""Replication, one promise at a time; what happens in combination is in ``test_replication_simulation.py``."""

from random import Random

import msgspec
import pytest

from fedbus.broker import copy_effects as c
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.record import Kind, Record, ledger_seed
from fedbus.ledger_record import LedgerRecord
from tests.broker.replica_node import ReplicaNode
from tests.broker.replicated_run import ReplicatedRun
from tests.broker.replicated_world import ReplicatedWorld, settings
from tests.broker.simulation import SMALL
from tests.broker.talk import Talk


@pytest.fixture
def run() -> ReplicatedRun:
    return ReplicatedRun(seed=1)


def session(node: ReplicaNode) -> Talk:
    return Talk(node, b"talk")  # type: ignore[arg-type]


def follower_of(run: ReplicatedRun, node: ReplicaNode) -> ReplicaNode:
    record = run.world.keeper.records[node.core.ledgers.current]
    [member] = [member for member in record.last.members if member != node.member]
    return next(each for each in run.nodes if each.member == member)


def swap(record: LedgerRecord, **changes: object) -> LedgerRecord:
    return msgspec.structs.replace(record, version=record.version + 1, **changes)


def test_a_publish_is_answered_when_both_disks_have_it(run: ReplicatedRun):
    writer = run.nodes[0]
    follower, talk = follower_of(run, writer), session(run.nodes[0])
    talk.publish(b"one")
    writer.commit()
    run.world.move()
    assert not talk.heard(p.Published)
    follower.commit()
    run.world.move()
    assert talk.hear(p.Published)
    ledger = writer.core.ledgers.current
    one, other = (node.disk.ledgers[ledger] for node in (writer, follower))
    assert one.keys() == other.keys()


def test_a_record_damaged_on_its_way_is_not_stored(run: ReplicatedRun):
    writer = run.nodes[0]
    follower, ledger = follower_of(run, writer), writer.core.ledgers.current
    number = writer.core.ledgers.next_number()
    record = Record(Kind.EVENTS, number, 0, 1, 1, meta=b"m", index=b"i", payload=b"sound")
    head, meta, index, _ = record.buffers(ledger_seed(ledger))
    talk = session(follower)
    talk.say(p.Append(ledger, 0, number, 0), bytes(head), bytes(meta), bytes(index), b"s0und")
    assert talk.hear(p.Refused).code == "protocol"
    talk.say(p.Append(ledger, 0, number, 0), bytes(head), bytes(meta), bytes(index), b"sound")
    follower.commit()
    assert talk.hear(p.Appended).number == number


def test_who_has_noted_a_recovery_takes_no_appends_of_the_old_term_also_after_a_crash(run: ReplicatedRun):
    writer = run.nodes[0]
    follower, ledger = follower_of(run, writer), writer.core.ledgers.current
    taken = swap(run.world.keeper.records[ledger], state="RECOVERING", term=1)
    follower.handle(c.ApplyLedgers([taken], {}))
    follower.commit()
    follower.crash()
    follower.start()
    talk = session(follower)
    talk.say(p.Append(ledger, 0, 1, 0))
    assert talk.hear(p.AppendRefused).code == "fenced"


def test_a_fenced_writer_answers_nothing_any_more(run: ReplicatedRun):
    writer = run.nodes[0]
    follower, talk = follower_of(run, writer), session(run.nodes[0])
    talk.publish(b"one")
    writer.commit()
    taken = swap(run.world.keeper.records[writer.core.ledgers.current], state="RECOVERING", term=1)
    follower.handle(c.ApplyLedgers([taken], {}))
    inbox = talk.inbox
    run.world.move()
    assert writer.core.stopped
    assert not [message for message, _ in inbox if isinstance(message, p.Published | p.Refused)]


def test_a_full_disk_of_the_writer_uses_no_number_twice(run: ReplicatedRun):
    writer = run.nodes[0]
    follower, talk = follower_of(run, writer), session(run.nodes[0])
    writer.disk.full = True
    talk.publish(b"one")
    run.world.move()
    follower.commit()
    writer.commit()
    run.world.tick()
    talk.publish(b"two", request=2)
    assert talk.hear(p.Refused).code == "storage"
    writer.disk.full = False
    run.calm(20)
    assert talk.hear(p.Published).request == 1
    ledger = writer.core.ledgers.current
    assert follower.disk.ledgers[ledger].keys() == writer.disk.ledgers[ledger].keys()


def test_without_its_members_publishing_is_refused_as_under_replicated(run: ReplicatedRun):
    writer, follower = run.nodes[0], follower_of(run, run.nodes[0])
    talk = session(writer)
    run.world.cuts |= {(writer.name, follower.name), (follower.name, writer.name)}
    talk.publish(b"one")
    for _ in range(80):
        writer.commit()
        run.world.move()
        run.world.tick(20)
    talk.publish(b"two", request=2)
    refused = talk.hear(p.Refused)
    assert (refused.code, refused.retryable) == ("under_replicated", True)
    assert writer.core.status().silent == [follower.instance]


def test_before_the_manager_has_given_a_ledger_publishing_is_refused_retryably():
    world = ReplicatedWorld(Random(1), SMALL, settings())
    node = world.node("n0")
    talk = session(node)
    talk.publish(b"one")
    refused = talk.hear(p.Refused)
    assert (refused.code, refused.retryable) == ("unavailable", True)
    world.tick()
    assert [request.kind for *_, request in world.keeper.asked] == ["open"]


def test_an_instance_that_is_drained_ends_its_ledger_and_asks_for_no_other(run: ReplicatedRun):
    leaver = run.nodes[0]
    ledger = leaver.core.ledgers.current
    leaver.handle(e.Drain(close=True))
    run.calm(20)
    assert run.world.keeper.records[ledger].state == "CLOSED"
    assert leaver.core.ledgers.current == ""
    assert not leaver.core.status().requests
    talk = session(leaver)
    talk.publish(b"late")
    assert talk.hear(p.Refused).retryable


def test_a_new_member_fetches_what_it_lacks_and_the_fragments_are_merged(run: ReplicatedRun):
    writer, follower = run.nodes[0], follower_of(run, run.nodes[0])
    talk = session(writer)
    talk.publish(b"one")
    run.calm(5)
    follower.crash()
    talk.publish(b"two")
    run.calm(60)
    record = run.world.keeper.records[writer.core.ledgers.current]
    assert len(record.fragments) == 1
    assert len(record.last.members) == 2
    assert follower.member not in record.last.members
    assert len(talk.heard(p.Published)) == 2
