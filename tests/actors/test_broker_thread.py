"""The broker's thread under peers that misbehave: others keep their service, and memory stays bounded."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from fedbus.broker import protocol as p
from fedbus.broker.broker import Broker
from fedbus.broker.intake import Intake
from fedbus.limits import Limits
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from tests.actors.peer import Peer, batch_of

LIMITS = Limits(
    frame_bytes=200_000,
    batch_bytes=150_000,
    event_bytes=100_000,
    member_credit_bytes=500_000,
    tail_cache_bytes=2_000_000,
)
ZMTP_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[BusInstance]:
    instance = BusInstance(InstanceConfig("here.a", "b1", str(tmp_path), limits=LIMITS))
    yield instance
    instance.stop()


def raw(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(range(256)) * 40,
        ZMTP_GREETING,
        ZMTP_GREETING + b"\x04\x19\x05READY" + b"\xff" * 60,
        ZMTP_GREETING + b"\x02" + struct.pack(">Q", 2**62) + b"x" * 100,
        b"\xff" * 10,
        b"",
    ],
)
def test_garbage_on_the_port_leaves_others_their_service(bus: BusInstance, data: bytes):
    with Peer(bus.port) as peer:
        for _ in range(20):
            raw(bus.port, data)
        assert peer.published([b"one"]).count == 1


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1"],
        [b"\x91\xa5hello"],
        [b"\x93\xa7publish\x01\x02"],
        [p.encode(p.Publish(1, "p", 1)), b"index", b"payload"],
        [p.encode(p.Publish(1, "p", 1))],
        [p.encode(p.Ack(1, [p.Settled("x", [(-5, 10)])], 9))],
        [p.encode(p.Ack(1, [p.Settled("x", [(10, -5)])], 9))],
        [p.encode(p.Subscribe(1, 1, ["no filter!"], p.EARLIEST, 1))],
        [p.encode(p.Subscribe(1, 1, [">"], p.Start("cursor", cursor={"nowhere": 3}), 1))],
        [p.encode(p.Subscribe(1, 1, [">"], p.Start("cursor", cursor={"a/b/0": -3}), 1))],
        [p.encode(p.Subscribe(1, 1, [">"], p.Start("sideways"), 1))],
        [p.encode(p.Subscribe(1, 1, [">"], p.EARLIEST, 1, "g" * 10_000))],
        [p.encode(p.Pull(1, 1, "here.a/b1/0", [p.LinkFilter("((", 0)], 5))],
        [p.encode(p.Pull(1, 1, "here.a/b1/0", [p.LinkFilter(">", -1)], 5))],
        [p.encode(p.Pull(1, 1, "nowhere", [p.LinkFilter(">", 0)], 5))],
    ],
)
def test_a_message_that_makes_no_sense_is_refused_and_the_session_goes_on(bus: BusInstance, frames: list[bytes]):
    with Peer(bus.port) as peer:
        peer.socket.send_multipart(frames)
        refused, _ = peer.hear(p.Refused)
        assert refused.detail
        assert not refused.retryable
        assert peer.published([b"one"]).count == 1
    assert bus._thread.internal_errors == 0


def test_who_never_said_hello_is_told_so(bus: BusInstance):
    with Peer(bus.port, hello=False) as peer:
        peer.say(p.Ping())
        refused, _ = peer.hear(p.Refused)
        assert (refused.code, refused.retryable) == ("unknown_session", True)


def test_an_oversize_frame_costs_its_sender_the_connection_and_nobody_else(bus: BusInstance):
    with Peer(bus.port) as rude, Peer(bus.port) as peer:
        batch = batch_of([b"x" * 50_000] * 5)
        rude.say(p.Publish(1, "", 0), batch.index_bytes, batch.payload)
        assert peer.published([b"one"]).count == 1
        batch = batch_of([b"x" * 50_000] * 3)  # fits the frame, not the batch
        peer.say(p.Publish(99, "", 0), batch.index_bytes, batch.payload)
        assert peer.hear(p.Refused)[0].code == "too_large"


def test_a_flood_of_connections_leaves_the_others_their_service(bus: BusInstance):
    flood = [socket.create_connection(("127.0.0.1", bus.port)) for _ in range(200)]
    try:
        with Peer(bus.port) as peer:
            assert peer.published([b"one"]).count == 1
            peer.subscribe([">"])
            assert peer.events(1) == [b"one"]
    finally:
        for connection in flood:
            connection.close()


def test_a_subscriber_that_never_reads_costs_bounded_memory_and_harms_nobody(bus: BusInstance):
    context = zmq.Context()
    deaf = context.socket(zmq.DEALER)
    deaf.rcvhwm = 1
    deaf.setsockopt(zmq.RCVBUF, 4096)
    deaf.linger = 0
    deaf.connect(f"tcp://127.0.0.1:{bus.port}")
    deaf.send(p.encode(p.Hello(1, 1, "client", "deaf")))
    deaf.send(p.encode(p.Subscribe(1, 1, [">"], p.LATEST, 100_000)))
    with Peer(bus.port) as publisher, Peer(bus.port) as listener:
        bus_knows = bus.status()
        while bus_knows.counters["sessions"] < 3 or not bus_knows.live:
            bus_knows = bus.status()
        number_there = listener.subscribe([">"], "g", p.LATEST)
        memory = psutil.Process().memory_info().rss
        for number in range(1500):
            published = publisher.published([number.to_bytes(4) * 25_000])
            assert len(listener.events(1)) == 1
            settled = [p.Settled(published.ledger, [(published.first_offset, published.first_offset + 1)])]
            listener.say(p.Ack(number_there, settled))
            listener.say(p.Credit(number_there, 1))
        grown = psutil.Process().memory_info().rss - memory
        print(f"{grown} bytes more")
        assert bus._thread._router.congested is False, "its backlog is gone with its session"
        assert bus.status().live == [], "its subscription has ended"
    context.destroy(linger=0)
    assert grown < 60_000_000, f"{grown} bytes more for a peer that reads nothing of 150 MB"


def test_a_member_that_never_acknowledges_gets_no_more_than_it_may_hold(bus: BusInstance):
    with Peer(bus.port) as publisher, Peer(bus.port) as keeper, Peer(bus.port) as worker:
        keeper.subscribe([">"], "g", credit=10_000)
        for number in range(20):
            publisher.published([bytes([number]) * 90_000])
        assert [body[0] for body in keeper.events(6)] == [0, 1, 2, 3, 4, 5]  # 500,000 bytes and what went over it
        assert bus.status().groups[0].outstanding == 6
        worker.subscribe([">"], "g", credit=10_000, member="w")
        assert [body[0] for body in worker.events(6)] == [6, 7, 8, 9, 10, 11]
        assert bus.status().groups[0].outstanding == 12


def test_our_own_bug_in_one_message_costs_its_sender_the_session_only(
    bus: BusInstance, monkeypatch: pytest.MonkeyPatch
):
    publish = Intake.publish

    def buggy(self: Intake, session: bytes, request: p.Publish, *rest: object) -> None:
        if request.producer == "poison":
            raise KeyError("a bug of ours")
        publish(self, session, request, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Intake, "publish", buggy)
    with Peer(bus.port) as unlucky, Peer(bus.port) as peer:
        unlucky.publish([b"x"], producer="poison", sequence=1)
        assert peer.published([b"one"]).count == 1
        unlucky.say(p.Ping())
        assert unlucky.hear(p.Refused)[0].code == "unknown_session"
    assert bus._thread.internal_errors == 1


def test_a_core_that_cannot_go_on_is_reported_and_asks_nobody_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    crashes: list[BaseException] = []
    bus = BusInstance(InstanceConfig("here.a", "b1", str(tmp_path)), on_crash=crashes.append)
    monkeypatch.setattr(Broker, "_tick", lambda self, now_ns: 1 / 0)
    bus._thread._thread.join(20)
    assert [type(crash) for crash in crashes] == [ZeroDivisionError]
    with pytest.raises(Exception, match="has ended"):
        bus.status()
    bus.stop()
