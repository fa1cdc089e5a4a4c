"""What a writer that is disturbed must not do: forget, write without a record, or use a number twice."""

import msgspec
import pytest

from fedbus.broker import copy_effects as c
from fedbus.broker import protocol as p
from fedbus.broker.copy import Copy
from fedbus.broker.on_disk import HeldRun, OnDisk
from fedbus.broker.record import Kind, Record
from fedbus.ledger_record import Fragment, LedgerRecord, Member
from tests.broker.replica_node import ReplicaNode
from tests.broker.replicated_run import ReplicatedRun
from tests.broker.talk import Talk


@pytest.fixture
def run() -> ReplicatedRun:
    return ReplicatedRun(seed=1, count=2)


def newer(record: LedgerRecord, **changes: object) -> LedgerRecord:
    return msgspec.structs.replace(record, version=record.version + 1, **changes)


def talk(node: ReplicaNode, name: bytes = b"talk") -> Talk:
    return Talk(node, name)  # type: ignore[arg-type]


def from_now_on(node: ReplicaNode, record: LedgerRecord, *members: Member) -> LedgerRecord:
    ledgers = node.core.ledgers
    fragment = Fragment(ledgers.confirmed_number + 1, (node.member, *members), ledgers.confirmed_offset)
    return newer(record, fragments=(*record.fragments, fragment))


def test_a_full_disk_frees_no_number_that_is_on_it_though_it_is_not_confirmed():
    run = ReplicatedRun(seed=1, count=1)
    writer = run.nodes[0]
    ledger = writer.core.ledgers.current
    talking = talk(writer)
    writer.handle(c.ReviewEnsemble(ledger))
    talking.publish(b"on disk, and frozen")
    writer.commit()
    writer.disk.full = True
    talking.publish(b"refused")
    writer.commit()
    assert writer.core.ledgers.next_number() >= len(writer.disk.ledgers[ledger])
    writer.disk.full = False
    run.calm(10)
    assert len(talking.heard(p.Published)) == 2


def test_a_member_with_another_directory_has_nothing_of_what_the_one_before_had(run: ReplicatedRun):
    writer, other = run.nodes
    record = run.world.keeper.records[writer.core.ledgers.current]
    talking = talk(writer)
    talking.publish(b"one")
    run.world.move()
    other.commit()
    run.world.move()  # the other has it and says so; the own disk is slow
    stranger = Member(other.instance, "another")
    writer.handle(c.ApplyLedgers([from_now_on(writer, record, stranger)], {other.instance: other.endpoint}))
    writer.commit()
    assert not talking.heard(p.Published)


def test_a_ledger_that_was_taken_away_before_it_began_is_not_begun(run: ReplicatedRun):
    writer = run.nodes[0]
    ledgers, first = writer.core.ledgers, writer.core.ledgers.current
    record = run.world.keeper.records[first]
    following = msgspec.structs.replace(record, id="here/n0/1", fragments=(Fragment(0, (writer.member,)),))
    talk(writer).publish(b"one")
    writer.handle(c.ApplyLedgers([following], {}))
    ledgers.pausing = True  # it is time, once what is pending is confirmed
    writer.handle(c.ApplyLedgers([newer(following, state="RECOVERING", term=1)], {}))
    run.calm(10)
    assert ledgers.current == first
    assert not ledgers.pausing


def acknowledge(node: ReplicaNode, run: ReplicatedRun) -> None:
    """One event is published, delivered to a group, and durably acknowledged."""
    talking = talk(node, b"first")
    talking.publish(b"one")
    run.calm(5)
    talking.subscribe(group="g")
    run.calm(8)
    [delivered] = [message for message, _ in talking.inbox if isinstance(message, p.Deliver)]
    talking.inbox.clear()
    talking.say(p.Ack(1, [p.Settled(delivered.ledger, delivered.ranges)], request=7))
    run.calm(5)
    assert talking.heard(p.Ok)


def test_who_lacks_the_end_of_a_former_ledger_goes_on_without_and_folds_it_in_later(run: ReplicatedRun):
    first, second = run.nodes
    acknowledge(first, run)
    ledger = first.core.ledgers.current
    talk(first).publish(b"two")
    run.world.move()
    second.commit()  # the second alone has it
    first.crash()
    run.world.cuts |= {("n0", "n1"), ("n1", "n0")}
    first.start()
    while run.world.keeper.records[ledger].state != "CLOSED":
        run.calm(1)
    second.crash()
    run.calm(200)
    assert first.core.ledgers.current, "one of two is gone: the other takes publishes all the same"
    first.crash()
    run.world.cuts.clear()
    second.start()
    first.start()
    run.calm(200)
    again = talk(first, b"again")
    again.subscribe(group="g")
    run.calm(20)
    assert again.bodies() == [b"two"]


def test_a_copy_whose_end_was_unfinished_says_so_until_it_is_written_to(run: ReplicatedRun):
    record = run.world.keeper.records[run.nodes[0].core.ledgers.current]
    copy = Copy(record.id, OnDisk(ledger=record.id, record=record, runs=(HeldRun(0, 0, 3, 3),), torn=True))
    assert copy.held(serving=False).torn
    assert copy.add(Record(Kind.EVENTS, 3, 3, 1, 1), [])
    assert not copy.held(serving=False).torn
