"""Peering over real, encrypted sockets: regions find one another, lose one another, ask one another."""

import socket
from collections.abc import Iterator

import msgspec
import pytest
import zmq

from fedbus.broker.group_spec import GroupRecord, GroupSpec
from fedbus.broker.protocol import Start
from fedbus.control import peering_effects as e
from fedbus.control.peer_messages import MOST_BYTES, Request, encode
from fedbus.errors import FedbusError, NotFoundError, UnavailableError
from fedbus_actors.peering import Peering
from fedbus_actors.peering_thread import PeeringConfig
from fedbus_actors.region_keys import new_key_pair
from fedbus_actors.zap import dial_encrypted, dial_promptly
from tests.actors.peered import SETTINGS, PeeredRegion, until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def regions() -> Iterator[list[PeeredRegion]]:
    made = [PeeredRegion(name, free_port()) for name in ("here.a", "here.b", "here.c")]
    yield made
    for region in made:
        region.hold.set()
        if hasattr(region, "peering"):
            region.peering.stop()


def start(*regions: PeeredRegion) -> None:
    for region in regions:
        region.start(*(other.address for other in regions if other is not region))
    for region in regions:
        others = {other.name for other in regions if other is not region}
        until(lambda r=region, o=others: o == r.peering.round_trips.keys(), f"{region.name}: {region.notes}")


def group(name: str, version: int = 1) -> GroupRecord:
    return GroupRecord(GroupSpec(name, ["orders.>"], Start("earliest"), created_ns=1, version=version))


def test_regions_know_one_anothers_summaries_and_how_far_away_they_are(regions: list[PeeredRegion]) -> None:
    start(*regions)
    regions[0].load_eps = 7.5
    until(lambda: regions[2].peering.summaries["here.a"].load_eps == 7.5)
    heard = regions[2].peering.summaries["here.a"]
    assert {address.region for address in heard.members} == {"here.a", "here.b", "here.c"}
    assert heard.round_trips.keys() == {"here.b", "here.c"}
    assert all(0 <= ms < 1000 for ms in heard.round_trips.values())
    assert regions[1].peering.keys() == {each.name: each.keys.public for each in (regions[0], regions[2])}


def test_a_region_that_ends_is_lost_and_its_last_word_kept_until_it_is_back(regions: list[PeeredRegion]) -> None:
    a, b, _ = regions
    start(a, b)
    b.load_eps = 3.0
    until(lambda: a.peering.summaries["here.b"].load_eps == 3.0)
    b.stop()
    until(lambda: "here.b" in a.peering.lost)
    assert a.peering.summaries["here.b"].load_eps == 3.0
    assert a.peering.lost_for_s("here.b") is not None
    assert "here.b" not in a.peering.round_trips
    b.load_eps = 4.0
    b.start(a.address)
    until(lambda: not a.peering.lost and a.peering.summaries["here.b"].load_eps == 4.0)
    assert a.peering.summaries["here.b"].generation == 2


def test_a_region_joins_through_one_that_is_there_and_leaves_again(regions: list[PeeredRegion]) -> None:
    a, b, c = regions
    start(a, b)
    a.peering.change_members(e.AddRegion(c.name, c.endpoint, c.keys.public))
    c.start(a.address)
    until(lambda: {"here.a", "here.b"} == c.peering.round_trips.keys() and "here.c" in b.peering.round_trips)
    b.peering.change_members(e.RemoveRegion(c.name))
    until(lambda: "here.c" not in a.peering.states and not c.peering.states)
    assert a.kept["here.c"].left
    assert c.kept["here.c"].left


def test_definitions_of_groups_reach_everybody_also_those_that_were_away(regions: list[PeeredRegion]) -> None:
    a, b, c = regions
    start(a, b, c)
    c.stop()
    a.groups["billing"] = group("billing")
    a.peering.publish_groups([group("billing")])
    until(lambda: "billing" in b.groups)
    c.start(a.address, b.address)
    until(lambda: "billing" in c.groups)


def test_calls_are_answered_and_errors_come_back_as_themselves(regions: list[PeeredRegion]) -> None:
    a, b, _ = regions
    start(a, b)
    assert a.peering.call("here.b", "read", "topics", 3) == {"region": "here.b", "arguments": ["topics", 3]}
    with pytest.raises(NotFoundError, match="no coffee here"):
        a.peering.call("here.b", "fail", "coffee")
    with pytest.raises(FedbusError, match="a bug"):
        a.peering.call("here.b", "break")
    with pytest.raises(NotFoundError, match="knows no region"):
        a.peering.call("here.x", "read")


def test_an_answer_that_does_not_come_is_not_waited_for(regions: list[PeeredRegion]) -> None:
    a, b, _ = regions
    start(a, b)
    b.hold.clear()
    with pytest.raises(UnavailableError, match="whether it was done is unknown"):
        a.peering.call("here.b", "read", timeout_s=0.1)
    b.hold.set()
    assert a.peering.call("here.b", "read")["region"] == "here.b"


def test_a_lost_region_is_not_asked(regions: list[PeeredRegion]) -> None:
    a, b, _ = regions
    start(a, b)
    b.stop()
    until(lambda: "here.b" in a.peering.lost)
    with pytest.raises(UnavailableError, match="nothing was asked"):
        a.peering.call("here.b", "read")


@pytest.fixture
def stranger() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_garbage_forgery_and_the_oversized_are_dropped_and_unknown_keys_refused(
    regions: list[PeeredRegion], stranger: zmq.Context[zmq.Socket[bytes]]
) -> None:
    a, b, c = regions
    start(a, b)

    def dial(region: PeeredRegion) -> zmq.Socket[bytes]:
        dealer = stranger.socket(zmq.DEALER)
        dial_promptly(dealer)
        dial_encrypted(dealer, region.keys, a.keys.public)
        dealer.connect(a.endpoint)
        return dealer

    known = dial(b)
    unknown = dial(PeeredRegion("here.x", keys=new_key_pair()))
    known.send(b"garbage")
    known.send_multipart([b"one", b"too many"])
    until(lambda: a.peering.dropped.get("garbage") == 2)
    known.send(encode("here.a", 9, Request(1, "change", [])))
    until(lambda: a.peering.dropped.get("forged") == 1)
    until(lambda: a.peering.dropped["refused"])
    until(lambda: not unknown.poll(0, zmq.POLLOUT), "it gets no further than the handshake")
    oversized = dial(b)
    oversized.send(b"\0" * (MOST_BYTES + 10_000))
    b.load_eps = 2.0
    until(lambda: a.peering.summaries["here.b"].load_eps == 2.0, "others keep their service")
    assert a.asked == []
    assert c.name not in a.peering.states


def test_a_port_that_is_taken_is_a_clear_problem_until_it_is_free() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        region = PeeredRegion("here.a", holder.getsockname()[1])
        own = msgspec.structs.replace(region.address, version=1)
        region.peering = Peering(PeeringConfig(own, "127.0.0.1", region.port, region.keys, [], 1, SETTINGS))
        region.peering.start(region, region)
        until(lambda: "cannot listen to other regions on 127.0.0.1" in region.peering.problem)
    try:
        until(lambda: not region.peering.problem)
    finally:
        region.peering.stop()
