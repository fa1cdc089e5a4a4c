"""Links between real instances of two regions: encrypted, by allow-list, and never stuck."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from fedbus.broker import protocol as p
from fedbus.broker.effects import PeerLink
from fedbus.broker.policies import TopicRule
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from fedbus_actors.region_keys import new_key_pair, public_key
from fedbus_actors.zap import dial_encrypted
from tests.actors.peer import Peer

DEADLINE_S = 60.0
EVERYTHING = [p.LinkFilter(">", 0)]


class OneRegion:
    """An instance with a link endpoint."""

    def __init__(self, directory: Path, region: str) -> None:
        self.region = region
        config = InstanceConfig(region, "b1", str(directory / region / "b1"), keys_directory=str(directory / region))
        self.bus = BusInstance(config)
        self.key = public_key(directory / region)
        self.endpoint = f"tcp://127.0.0.1:{self.bus.link_port}"

    def pull(self, origin: OneRegion, endpoint: str = "", key: str = "", ledger: str = "") -> None:
        ledger = ledger or origin.bus.status().ledger
        self.bus.apply_links([PeerLink(ledger, endpoint or origin.endpoint, EVERYTHING, key or origin.key)])


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[tuple[OneRegion, OneRegion]]:
    both = OneRegion(tmp_path, "here.a"), OneRegion(tmp_path, "there.b")
    for each in both:
        each.bus.apply_peers({other.region: other.key for other in both if other is not each})
    yield both
    for each in both:
        each.bus.stop()


def until(condition: Callable[[], object], what: str) -> None:
    pause = threading.Event()
    for _ in range(int(DEADLINE_S / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise TimeoutError(what)


def linked(region: OneRegion) -> int:
    return region.bus.status().counters["linked_events"]


def test_events_cross_an_encrypted_link_once_and_carry_their_age(regions):
    here, there = regions
    there.pull(here)
    with Peer(here.bus.port) as producer:
        for number in range(20):
            producer.published([f"{number}-{n}".encode() for n in range(5)], producer="p", sequence=number + 1)
    until(lambda: linked(there) == 100, "all have crossed")
    assert list(there.bus.status().link_topics) == ["here.a"]
    with Peer(there.bus.port) as consumer:
        consumer.subscribe([">"])
        bodies = consumer.events(100)
    assert bodies == [f"{number}-{n}".encode() for number in range(20) for n in range(5)]


def test_who_is_not_on_the_list_hears_nothing_and_gets_in_as_soon_as_it_is(regions):
    here, there = regions
    here.bus.apply_peers({})
    there.pull(here)
    with Peer(here.bus.port) as producer:
        producer.published([b"x"])
    until(lambda: here.bus._allowed is not None and here.bus._allowed.refused, "a handshake was refused")
    assert linked(there) == 0
    here.bus.apply_peers({there.region: there.key})
    until(lambda: linked(there) == 1, "a fresh connection after the silence")


def test_who_is_let_in_no_more_is_cut_off_though_its_connection_stands(regions):
    here, there = regions
    there.pull(here)
    with Peer(here.bus.port) as producer:
        producer.published([b"x"])
    until(lambda: linked(there) == 1, "the link works")
    here.bus.apply_peers({})
    until(lambda: here.bus.status().counters["sessions"] == 0, "its session ends")
    with Peer(here.bus.port) as producer:
        producer.published([b"y"])
    assert linked(there) == 1


def test_an_origin_that_cannot_prove_its_key_is_not_pulled_from(regions):
    here, there = regions
    there.pull(here, key=new_key_pair().public)
    with Peer(here.bus.port) as producer:
        producer.published([b"x"])
    there.pull(here)
    until(lambda: linked(there) == 1, "under the right key it comes")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("there.b", p.Publish(1, "p", 1)),
        ("there.b", p.Subscribe(1, 1, [">"], p.EARLIEST, 10)),
        ("there.b", p.Append("x", 0, 0, 0)),
        ("elsewhere", None),
    ],
    ids=["publish", "subscribe", "append", "another region's name"],
)
def test_a_region_may_pull_under_its_own_name_and_nothing_else(regions, tmp_path, region, message):
    here, _ = regions
    from fedbus_actors.region_keys import open_keys

    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dial_encrypted(dealer, open_keys(tmp_path / "there.b"), here.key)
        dealer.connect(here.endpoint)
        dealer.send(p.encode(p.Hello(1, 1, "peer", "x", region)))
        if message is not None:
            frames = [b"", b""] if isinstance(message, p.Publish) else []
            dealer.send_multipart([p.encode(message), *frames])
        heard = []
        while not (heard and isinstance(heard[-1], p.Refused)):
            assert dealer.poll(DEADLINE_S * 1000), heard
            heard.append(p.decode_from_instance(dealer.recv_multipart()))
        assert heard[-1].code == "protocol"
    assert here.bus.status().counters["events_in"] == 0


def test_what_is_pinned_does_not_leave_though_it_is_asked_for(regions):
    here, there = regions
    here.bus.apply_topics(1, [TopicRule(filter="a.secret", forward="pinned", regions=("here.a",))], True)
    there.pull(here)
    with Peer(here.bus.port) as producer:
        for topic in ("a.secret", "a.open", "a.secret", "a.open"):
            request = producer.publish([topic.encode()], topic=topic)
            producer.hear(p.Published, lambda answer, request=request: answer.request == request)
    until(lambda: linked(there) == 2, "the others have crossed")
    with Peer(there.bus.port) as consumer:
        consumer.subscribe([">"])
        assert consumer.events(2) == [b"a.open", b"a.open"]
    there.bus.apply_topics(1, [TopicRule(filter="a.secret", forward="pinned", regions=("here.a",))], True)
    with Peer(there.bus.port) as producer:
        producer.publish([b"x"], topic="a.secret")
        refused, _ = producer.hear(p.Refused)
        assert (refused.code, refused.retryable, "here.a" in refused.detail) == ("pinned", False, True)


class Valve:
    """A TCP proxy that can swallow what flows in one direction, as a partition does: connections stay open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.swallow: set[str] = set()
        self.accepted = 0
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.accepted += 1
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
                threading.Thread(target=self._carry, args=("there", near, far), daemon=True).start()
                threading.Thread(target=self._carry, args=("back", far, near), daemon=True).start()

    def _carry(self, direction: str, source: socket.socket, sink: socket.socket) -> None:
        doomed = False  # what was swallowed never arrives: neither does anything behind it
        with suppress(OSError):
            while data := source.recv(65536):
                doomed = doomed or direction in self.swallow
                if not doomed:
                    sink.sendall(data)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


@pytest.mark.parametrize("direction", ["there", "back"])
def test_a_partition_in_one_direction_does_not_wedge_a_link(regions, direction):
    here, there = regions
    valve = Valve(here.bus.link_port)
    there.pull(here, valve.endpoint)
    with Peer(here.bus.port) as producer:
        producer.published([b"before"], producer="p", sequence=1)
        until(lambda: linked(there) == 1, "the link works")
        valve.swallow.add(direction)
        producer.published([b"during"], producer="p", sequence=2)
        cut_at = valve.accepted
        until(lambda: valve.accepted > cut_at, "another connection is tried during the cut")
        valve.swallow.clear()
        producer.published([b"after"], producer="p", sequence=3)
        until(lambda: linked(there) == 3, "it goes on after the cut")
    with Peer(there.bus.port) as consumer:
        consumer.subscribe([">"])
        assert consumer.events(3) == [b"before", b"during", b"after"]
    valve.close()
