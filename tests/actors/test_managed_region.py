"""Instances under a keeper, on real directories and sockets: copies, take-over, restart, repair."""

from __future__ import annotations

from pathlib import Path

from fedbus.broker import protocol as p
from fedbus.limits import Limits
from tests.actors.managed_region import REGION, ManagedRegion
from tests.actors.peer import Peer

SMALL = Limits(replica_silence_ms=300)


def copies_of(region: ManagedRegion, name: str, ledger: str) -> list[bytes]:
    """Everything in the segments of a ledger at an instance, headers aside."""
    region_name, instance, epoch = ledger.split("/")
    own = region[name].directory / "ledgers" / epoch
    place = own if instance == name else region[name].directory / "copies" / region_name / instance / epoch
    return [path.read_bytes() for path in sorted(place.glob("*.seg"))]


def test_what_is_acknowledged_is_on_both_disks(tmp_path: Path):
    with ManagedRegion(tmp_path, "b1", "b2") as region:
        ledger = region.writing("b1")
        region.until(lambda: len(region.record(ledger).last.members) == 2, "two members")
        bus = region["b1"].bus
        assert bus is not None
        with Peer(bus.port) as peer:
            for number in range(50):
                peer.published([b"event %d" % number], producer="p", sequence=number + 1)
                assert any(b"event %d" % number in data for data in copies_of(region, "b2", ledger))
            peer.subscribe([">"])
            assert peer.events(50)[-1] == b"event 49"
        assert not region["b1"].crashes


def test_a_restarted_instance_serves_again_what_it_had_written(tmp_path: Path):
    with ManagedRegion(tmp_path, "b1", "b2") as region:
        first = region.writing("b1")
        bus = region["b1"].bus
        with Peer(bus.port) as peer:
            peer.published([b"one", b"two"], producer="p", sequence=1)
            number = peer.subscribe([">"], "g")
            peer.events(2)
            peer.ack(number, [p.Settled(first, [(0, 1)])])
        region["b1"].crash()
        bus = region["b1"].start()
        second = region.writing("b1")
        assert second != first
        region.until(lambda: region.record(first).state == "CLOSED", "closed")
        region.until(lambda: first in bus.status().ledgers, "served")
        with Peer(bus.port) as peer:
            assert peer.published([b"one", b"two"], producer="p", sequence=1).duplicate
            peer.subscribe([">"], "g")
            assert peer.events(1) == [b"two"]


def test_the_ledgers_of_an_instance_that_is_gone_are_served_by_another(tmp_path: Path):
    with ManagedRegion(tmp_path, "b1", "b2") as region:
        ledger = region.writing("b1")
        region.until(lambda: len(region.record(ledger).last.members) == 2, "two members")
        with Peer(region["b1"].bus.port) as peer:
            peer.published([b"one", b"two"], producer="p", sequence=1)
            number = peer.subscribe([">"], "g")
            peer.events(2)
            peer.ack(number, [p.Settled(ledger, [(0, 1)])])
        region["b1"].crash()
        heir = region["b2"].bus
        region.until(lambda: ledger in heir.status().ledgers, "taken over")
        with Peer(heir.port) as peer:
            peer.subscribe([">"], "g")
            assert peer.events(1) == [b"two"]
            peer.published([b"three"])
            assert peer.events(1) == [b"three"]


def test_a_writer_goes_on_without_a_member_that_is_gone_and_it_catches_up_when_it_is_back(tmp_path: Path):
    with ManagedRegion(tmp_path, "b1", "b2") as region:
        ledger = region.writing("b1")
        region.until(lambda: len(region.record(ledger).last.members) == 2, "two members")
        with Peer(region["b1"].bus.port) as peer:
            peer.published([b"first"])
            region["b2"].crash()
            peer.published([b"alone"])
            assert [m.instance for m in region.record(ledger).last.members] == [f"{REGION}/b1"]
            region["b2"].start()
            region.until(lambda: len(region.record(ledger).last.members) == 2, "two members again")
            peer.published([b"again"])
            region.until(lambda: len(region.record(ledger).fragments) == 1, "merged")
        held = {each.ledger: each for each in region["b2"].bus.status().held}[ledger]
        assert (held.first_number, held.damaged) == (0, 0)
        data = b"".join(copies_of(region, "b2", ledger))
        assert all(data.count(text) == 1 for text in (b"first", b"alone", b"again"))


def test_a_writer_that_was_cut_off_and_replaced_acknowledges_nothing_and_ends(tmp_path: Path):
    with ManagedRegion(tmp_path, "b1", "b2") as region:
        ledger = region.writing("b1")
        region.until(lambda: len(region.record(ledger).last.members) == 2, "two members")
        cut_off = region["b1"]
        with Peer(cut_off.bus.port) as peer:
            peer.published([b"acknowledged"])
            cut_off.hears = False
            cut_off.silent_since_ns = 1
            region.until(lambda: region.record(ledger).state == "CLOSED", "closed without it")
            peer.publish([b"too late"])
            region.until(lambda: cut_off.crashes, "ended")
            assert "has stopped" in str(cut_off.crashes[0])
            kinds = {type(message) for message, _ in peer._kept}
            assert p.Published not in kinds
        region.until(lambda: ledger in region["b2"].bus.status().ledgers, "taken over")


def test_what_a_scrub_finds_damaged_is_repaired_from_the_copy(tmp_path: Path):
    with ManagedRegion(tmp_path, "b1", "b2") as region:
        first = region.writing("b1")
        region.until(lambda: len(region.record(first).last.members) == 2, "two members")
        with Peer(region["b1"].bus.port) as peer:
            for number in range(20):
                peer.published([b"event %d." % number * 50])
        region["b1"].crash()
        region["b1"].start()
        region.until(lambda: region.record(first).state == "CLOSED" and first in region["b1"].bus.status().ledgers)
        region.until(lambda: sorted(copies_of(region, "b1", first)) and copies_of(region, "b2", first))
        [segment] = sorted((region["b2"].directory / "copies" / "here.a" / "b1" / first[-1]).glob("*.seg"))
        good = segment.read_bytes()
        at = good.index(b"event 7.")
        segment.write_bytes(good[:at] + b"?" + good[at + 1 :])
        region["b2"].crash()
        region["b2"].start()  # its segments are sealed now
        region.writing("b2")
        region["b2"].bus.scrub()

        def repaired() -> bool:
            return segment.read_bytes()[100 - len(good) :] == good[100:]

        region.until(repaired, "repaired")
        region.until(lambda: all(not held.damaged for held in region["b2"].bus.status().held), "none damaged")
        quarantine = list((segment.parent / "quarantine").glob("*.damaged"))
        assert len(quarantine) == 1
