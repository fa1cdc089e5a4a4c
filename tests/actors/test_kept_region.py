"""Replicated ledgers on real instances under a real keeper: what is acknowledged stays found, whoever dies."""

import shutil

import pytest

from fedbus.broker import protocol as p
from tests.actors.kept_region import REGION, KeptRegion
from tests.actors.peer import Peer


@pytest.fixture
def region(tmp_path):
    with KeptRegion(tmp_path, 2) as made:
        made.until(made.settled, "two ledgers with two copies")
        yield made


def publish(region, name, count, first=0):
    with Peer(region[name].port) as peer:
        for number in range(first, first + count):
            peer.published([b"%d" % number])


def confirmed(region, name, ledger):
    """As many records of it ``name`` has and knows to be confirmed."""
    return max((held.confirmed for held in region[name].status.held if held.ledger == f"{REGION}/{ledger}"), default=0)


def received(region, name, count):
    """The numbers among the next events of all ledgers that ``name`` dispatches."""
    with Peer(region[name].port) as peer:
        peer.subscribe([">"], group="all")
        return {int(body) for body in peer.events(count)}


def test_every_acknowledged_batch_is_on_two_instances(region):
    publish(region, "b1", 10)
    region.until(lambda: all(confirmed(region, name, "b1/0") >= 10 for name in ("b1", "b2")))


def test_a_killed_instance_comes_back_and_serves_what_it_had_acknowledged(region):
    publish(region, "b1", 10)
    region["b1"].kill()
    region["b1"].start()
    region.until(lambda: region["b1"].status.ledger == f"{REGION}/b1/1")
    assert received(region, "b1", 10) == set(range(10))
    publish(region, "b1", 5, first=10)
    region.until(region.settled)


def test_without_its_writer_a_ledger_is_taken_over_and_its_group_goes_on(region):
    publish(region, "b1", 10)
    with Peer(region["b1"].port) as peer:
        number = peer.subscribe([">"], group="all")
        message, _ = peer.hear(p.Deliver)
        peer.ack(number, [p.Settled(message.ledger, [(0, 1)])])
    region["b1"].kill()
    region.until(lambda: region.record("b1/0").dispatcher == f"{REGION}/b2")
    assert received(region, "b2", 9) >= set(range(1, 10))
    assert region.record("b1/0").end_offset == 10


def test_a_frozen_writer_acknowledges_nothing_when_it_wakes_up_and_begins_anew(region):
    publish(region, "b1", 3)
    with Peer(region["b1"].port) as zombie:
        region["b1"].freeze()
        region.until(lambda: region.record("b1/0").state == "CLOSED")
        request = zombie.publish([b"late"])
        region["b1"].thaw()
        region.until(lambda: region["b1"].status.ledger == f"{REGION}/b1/1", "a new incarnation")
        with pytest.raises(TimeoutError):
            zombie.hear(p.Published, lambda message: message.request == request, deadline_ms=300)
    assert region.record("b1/0").end_offset == 3
    region.until(region.settled)


def test_a_writer_goes_on_without_a_frozen_member_and_takes_it_in_again(region):
    region["b2"].freeze()
    publish(region, "b1", 5)
    assert len(region.record("b1/0").last.members) == 1
    region["b2"].thaw()
    region.until(region.settled, "two copies again")
    publish(region, "b1", 5, first=5)


def test_a_lost_machine_is_replaced_by_another_instance_with_all_its_ledgers(region):
    publish(region, "b1", 10)
    region.lose("b1")
    region.add("b3", node="n2")
    region.until(region.settled, "two copies of everything")
    assert all("b1" not in member.instance for record in region.keeper.records() for member in record.members)
    assert received(region, "b2", 10) == set(range(10))


def test_a_lost_directory_is_a_stranger_and_gets_copies_anew(region):
    publish(region, "b1", 10)
    instance = region["b1"]
    instance.kill()
    shutil.rmtree(instance.folder)
    instance.start()
    region.until(lambda: region.record("b1/0").dispatcher == f"{REGION}/b2")
    region.until(region.settled, "two copies of everything")
    assert received(region, "b2", 10) == set(range(10))


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_drain_hands_everything_over(tmp_path, replicas):
    with KeptRegion(tmp_path, 3, replicas=replicas) as region:
        region.until(region.settled)
        publish(region, "b1", 10)
        leaver = region["b1"]
        leaver.bus.drain()
        leaver.stage = "closing"
        region.until(lambda: region.keeper.unfinished_drain(f"{REGION}/b1") == "", "the end of the drain")
        region.lose("b1")
        region.until(region.settled)
        heir = region.record("b1/0").dispatcher.rpartition("/")[2]
        assert received(region, heir, 10) == set(range(10))


def test_while_the_manager_is_away_nothing_stops_and_its_successor_goes_on(region):
    region.stop_manager()
    publish(region, "b1", 5)
    region["b2"].kill()
    with Peer(region["b1"].port) as peer:
        request = peer.publish([b"5"])
        with pytest.raises(TimeoutError):
            peer.hear(p.Published, lambda message: message.request == request, deadline_ms=500)
        region.start_manager()
        peer.hear(p.Published, lambda message: message.request == request)
    region["b2"].start()
    region.until(region.settled)
    assert received(region, "b1", 6) == set(range(6))
