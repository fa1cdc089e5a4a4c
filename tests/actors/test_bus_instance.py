"""A bus instance as a whole, on a real directory and real sockets."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.errors import ClosedError, EnvironmentUnusableError, ProtocolError
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from tests.actors.peer import Peer
from tests.small_disk import fill


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[BusInstance]]:
    """Instances to stop at the end."""
    instances: list[BusInstance] = []
    yield instances
    for instance in instances:
        instance.stop()


def start(started: list[BusInstance], directory: Path, name: str = "b1", **more: object) -> BusInstance:
    started.append(BusInstance(InstanceConfig("here.a", name, str(directory), **more)))  # type: ignore[arg-type]
    return started[-1]


def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path, started: list[BusInstance]):
    bus = start(started, tmp_path)
    with Peer(bus.port) as peer:
        first = peer.published([b"one", b"two"], producer="p", sequence=1)
    bus.stop()
    again = start(started, tmp_path)
    with Peer(again.port) as peer:
        assert peer.welcome.ledger == "here.a/b1/1"
        repeated = peer.published([b"one", b"two"], producer="p", sequence=1)
        assert (repeated.duplicate, repeated.ledger, repeated.first_offset) == (True, first.ledger, first.first_offset)
        peer.published([b"three"])
        peer.subscribe([">"])
        assert peer.events(3) == [b"one", b"two", b"three"]


def test_a_group_goes_on_where_its_acknowledgements_say(tmp_path: Path, started: list[BusInstance]):
    bus = start(started, tmp_path)
    with Peer(bus.port) as peer:
        peer.published([b"one", b"two", b"three"])
        number = peer.subscribe([">"], "g")
        peer.events(3)
        peer.ack(number, [p.Settled("here.a/b1/0", [(0, 1), (2, 3)])])
    bus.stop()
    again = start(started, tmp_path)
    with Peer(again.port) as peer:
        peer.subscribe([">"], "g")
        assert peer.events(1) == [b"two"]
        peer.published([b"four"])
        assert peer.events(1) == [b"four"]


def test_buffered_acknowledgements_survive_an_orderly_stop(tmp_path: Path, started: list[BusInstance]):
    bus = start(started, tmp_path)
    with Peer(bus.port) as peer:
        peer.published([b"one", b"two"])
        number = peer.subscribe([">"], "g")
        peer.events(2)
        peer.say(p.Ack(number, [p.Settled("here.a/b1/0", [(0, 1)])]))
        peer.say(p.Ping(7))
        peer.hear(p.Pong)
        bus.stop()
    again = start(started, tmp_path)
    with Peer(again.port) as peer:
        peer.subscribe([">"], "g")
        assert peer.events(1) == [b"two"]


def test_with_a_full_disk_it_starts_all_the_same_serves_what_it_has_and_writes_when_there_is_space(
    small_disk: Path, started: list[BusInstance]
):
    directory = small_disk / "b1"
    bus = start(started, directory)
    with Peer(bus.port) as peer:
        peer.published([b"one", b"two"])
        peer.subscribe([">"], "g")
        peer.events(2)
    bus.stop()
    ballast = fill(small_disk)
    again = start(started, directory)
    with Peer(again.port) as peer:
        peer.subscribe([">"])
        assert peer.events(2) == [b"one", b"two"]
        refused = False
        while not refused:  # what came before the disk had answered waits for it
            request = peer.publish([b"three"])
            refused = _outcome(peer, request, 200) is p.Refused
        ballast.unlink()
        while _outcome(peer, peer.publish([b"four"]), 20_000) is not p.Published:
            pass
        events = peer.events(1)
        while events[-1] != b"four":
            events += peer.events(1)
        assert set(events) <= {b"three", b"four"}


def _outcome(peer: Peer, request: int, deadline_ms: int) -> type[p.Message] | None:
    """What a publish is answered with within the time."""

    def its(message: p.Message) -> bool:
        return isinstance(message, p.Published | p.Refused) and message.request == request

    try:
        return type(peer.hear(p.Message, its, deadline_ms)[0])
    except TimeoutError:
        return None


def test_a_port_in_use_is_named_and_leaves_no_trace(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentUnusableError, match=f"cannot listen on 127.0.0.1:{port}.*choose another"):
            BusInstance(InstanceConfig("here.a", "b1", str(tmp_path / "d"), port=port))
    assert not (tmp_path / "d").exists()
    BusInstance(InstanceConfig("here.a", "b1", str(tmp_path / "d"), port=port)).stop()


def test_a_directory_in_use_is_named(tmp_path: Path, started: list[BusInstance]):
    bus = start(started, tmp_path)
    with pytest.raises(EnvironmentUnusableError, match="in use by process"):
        BusInstance(InstanceConfig("here.a", "b1", str(tmp_path)))
    assert bus.status().state == "healthy"


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentUnusableError, match="file"):
        BusInstance(InstanceConfig("here.a", "b1", str(tmp_path / "file" / "b1")))


def test_after_a_failed_start_the_same_process_can_try_again(tmp_path: Path, started: list[BusInstance]):
    first = start(started, tmp_path)
    with pytest.raises(EnvironmentUnusableError, match="in use"):
        BusInstance(InstanceConfig("here.a", "b1", str(tmp_path)))
    first.stop()
    bus = start(started, tmp_path)
    assert bus.status().state == "healthy"


def test_a_bad_table_is_the_callers_error_and_a_good_one_reaches_sessions(tmp_path: Path, started: list[BusInstance]):
    bus = start(started, tmp_path)
    good = RoutingTable("f", "here.a", 2, [region_route("here.a", [InstanceRoute("here.a/b1", "tcp://x:1")])])
    with Peer(bus.port, want_table=True) as peer:
        for bad in (b"", b"\xc1", good.encode()[:-3]):
            with pytest.raises(ProtocolError):
                bus.apply_table(1, bad)
        bus.apply_table(2, good.encode())
        bus.apply_table(1, b"old, ignored")
        table, frames = peer.hear(p.Table)
        assert (table.version, RoutingTable.decode(frames[1])) == (2, good)
        assert bus.status().table_version == 2


def test_a_link_to_nowhere_harms_nobody(tmp_path: Path, started: list[BusInstance]):
    bus = start(started, tmp_path)
    for endpoint in ("no endpoint", "tcp://127.0.0.1:1", "tcp://"):
        bus.apply_links([e.PeerLink("there.b/b1/0", endpoint, [p.LinkFilter(">", 0)])])
    with Peer(bus.port) as peer:
        assert peer.published([b"one"]).first_offset == 0


def test_two_regions_link_and_each_event_crosses_once(tmp_path: Path, started: list[BusInstance]):
    origin = BusInstance(InstanceConfig("there.b", "b1", str(tmp_path / "there")))
    started.append(origin)
    receiver = start(started, tmp_path / "here")
    link = e.PeerLink("there.b/b1/0", f"tcp://127.0.0.1:{origin.port}", [p.LinkFilter("a.*", 0)])
    receiver.apply_links([link])
    with Peer(origin.port) as there, Peer(receiver.port) as here:
        there.published([b"one"])
        here.subscribe([">"], "g")
        assert here.events(1) == [b"one"]
        there.published([b"two"])
        assert here.events(1) == [b"two"]
    receiver.stop()
    again = start(started, tmp_path / "here")
    again.apply_links([link])
    with Peer(origin.port) as there, Peer(again.port) as here:
        there.published([b"three"])
        here.subscribe([">"])
        assert here.events(3) == [b"one", b"two", b"three"]
        assert again.status().ledgers == {"here.a/b1/0": 2, "here.a/b1/1": 1}


def test_asked_after_its_end_an_instance_says_so(tmp_path: Path, started: list[BusInstance]):
    bus = start(started, tmp_path)
    bus.stop()
    with pytest.raises(ClosedError):
        bus.status()


# -- as a process ------------------------------------------------------------------------------------------------------


class Process:
    """``python -m fedbus_actors.bus_instance`` on a directory."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fedbus_actors.bus_instance", "--data", str(directory), "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.endpoint = self.process.stdout.readline().strip() if self.process.stdout else ""
        self.port = int(self.endpoint.rpartition(":")[2] or 0)

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


def test_kill_9_in_mid_stream_loses_nothing_that_was_acknowledged(tmp_path: Path):
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    dice = random.Random(seed)
    acknowledged: list[bytes] = []
    process, port = Process(tmp_path), 0
    for life in range(3):
        port = port or process.port
        with Peer(process.port) as peer:
            requests: dict[int, list[bytes]] = {}
            enough = dice.randint(20, 400)
            while len(acknowledged) < (life + 1) * enough:
                bodies = [dice.randbytes(dice.randint(0, 300)) for _ in range(dice.randint(1, 20))]
                requests[peer.publish(bodies)] = bodies
                if len(requests) > 16:
                    acknowledged += requests.pop(peer.hear(p.Published)[0].request)
            process.end(signal.SIGKILL)
        process = Process(tmp_path, port)
        assert process.port == port, "the port can be had again at once"
    with Peer(process.port) as peer:
        peer.subscribe([">"], credit=100_000)
        peer.published([b"the last one"])
        events: list[bytes] = []
        while b"the last one" not in events[-1:]:
            events += peer.events(1)
        at = 0
        for body in acknowledged:  # all are there, in their order
            at = events.index(body, at) + 1
    assert process.end(signal.SIGTERM)[0] == 0


def test_a_process_that_cannot_start_says_what_to_do_and_exits_with_1(tmp_path: Path):
    process = Process(tmp_path / "one")
    second = Process(tmp_path / "two", process.port)
    _, errors = second.process.communicate(timeout=20)
    assert second.process.returncode == 1
    assert "cannot listen on" in errors
    assert "Traceback" not in errors
    third = Process(tmp_path / "one")
    _, errors = third.process.communicate(timeout=20)
    assert third.process.returncode == 1
    assert "in use by process" in errors
    assert process.end(signal.SIGINT)[0] == 0


def test_publishers_are_answered_before_a_process_ends(tmp_path: Path):
    process = Process(tmp_path)
    with Peer(process.port) as peer:
        requests = [peer.publish([b"x" * 100] * 20) for _ in range(50)]
        peer.say(p.Ping(1))
        peer.hear(p.Pong)  # all have been taken
        assert process.end(signal.SIGTERM)[0] == 0
        answered = {peer.hear(p.Published, deadline_ms=2000)[0].request for _ in requests}
    assert answered == set(requests)
