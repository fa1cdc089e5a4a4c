"""Connections that were dialled: nothing is lost that a peer reads late, nothing piles up for one that never does."""

from collections.abc import Iterator

import pytest
import zmq

from fedbus.broker import protocol as p
from fedbus.limits import MIB, Limits
from fedbus_actors.dialled_peers import DialledPeers

LIMITS = Limits(uncommitted_bytes=16 * MIB)
HELLO = p.Hello(1, 1, "peer", "b1", "here.a")
WAIT_MS = 20_000


class Listener:
    """A ROUTER that reads when it is told to."""

    def __init__(self, context: zmq.Context) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.rcvhwm = 4
        self.socket.setsockopt(zmq.RCVBUF, 4096)
        self.endpoint = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"

    def hear(self) -> list[bytes]:
        assert self.socket.poll(WAIT_MS), "nothing came"
        return self.socket.recv_multipart()


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_what_a_peer_reads_late_waits_in_order(context: zmq.Context):
    listener = Listener(context)
    peers = DialledPeers(context, zmq.Poller(), LIMITS)
    peers.dial(listener.endpoint)
    peers.send(listener.endpoint, HELLO, ())
    for number in range(300):
        peers.send(listener.endpoint, p.Publish(number, "", 0), (b"", bytes(50_000)))
    assert peers.congested
    heard = []
    while len(heard) < 301:
        peers.flush()
        heard.append(p.decode_from_peer(listener.hear()[1:]))
    assert [getattr(message, "request", -1) for message in heard] == [-1, *range(300)]
    assert not peers.congested


def test_a_peer_that_never_reads_gets_a_new_connection_and_what_waited_is_dropped(context: zmq.Context):
    listener = Listener(context)
    peers = DialledPeers(context, zmq.Poller(), LIMITS)
    peers.dial(listener.endpoint)
    most = 0
    for number in range(1200):
        peers.send(listener.endpoint, p.Ping(number), (bytes(100_000),))
        most = max(most, *(peer.backlog.size_bytes for peer in peers._peers.values()))
    assert most < 2 * LIMITS.uncommitted_bytes + 200_000
    sessions = set()
    while len(sessions) < 2:
        peers.flush()
        sessions.add(listener.hear()[0])


def test_a_hello_begins_a_connection_in_which_nothing_of_the_last_one_arrives(context: zmq.Context):
    with zmq.Context() as elsewhere:
        gone = Listener(elsewhere)
        endpoint = gone.endpoint
        gone.socket.close()
    peers = DialledPeers(context, zmq.Poller(), LIMITS)
    peers.dial(endpoint)
    peers.send(endpoint, HELLO, ())
    for number in range(200):  # nobody is there
        peers.send(endpoint, p.Ping(number), ())
    peers.send(endpoint, HELLO, ())
    peers.send(endpoint, p.Ping(999), ())
    listener = context.socket(zmq.ROUTER)
    listener.linger = 0
    listener.bind(endpoint)
    heard = []
    while len(heard) < 2:
        peers.flush()
        assert listener.poll(WAIT_MS)
        heard.append(p.decode_from_peer(listener.recv_multipart()[1:]))
    assert heard == [HELLO, p.Ping(999)]


def test_what_is_no_endpoint_is_never_answered(context: zmq.Context):
    peers = DialledPeers(context, zmq.Poller(), LIMITS)
    peers.dial("nonsense")
    peers.send("nonsense", HELLO, ())
    assert peers.receive("nonsense") is None
    peers.hang_up("nonsense")
