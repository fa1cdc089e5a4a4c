"""A shell for broker cores in which nothing is real: disk, network and time are lists that a test moves step by step.

A `Node` is one bus instance: its directory (what is durable survives a crash), the core of the present incarnation, and
what is on its way to disk. A `World` holds nodes, the connections between them and to clients, and the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from fedbus.batch import Batch
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.broker import Broker
from fedbus.broker.copy_effects import BeginLedger, BeginRefused, DropLedger, LedgerBegun
from fedbus.broker.record import Kind, Record
from fedbus.limits import Limits

MILLISECOND = 1_000_000
SMALL = Limits(
    uncommitted_bytes=4000,
    segment_bytes=1500,
    tail_cache_bytes=400,
    read_chunk_bytes=300,
    reads_waiting=2,
    max_ack_window_events=60,
    member_credit_bytes=400,
    link_window_bytes=500,
    batch_bytes=2000,
)


class Disk:
    """One directory: ``ledgers`` holds what is durable, ``queue`` what was written and not yet synced."""

    def __init__(self) -> None:
        self.ledgers: dict[str, list[Record]] = {}
        self.queue: list[e.Write | e.RollSegment | BeginLedger] = []
        self.generation = 0
        self.full = False
        self.failed = False
        self.damaged: set[tuple[str, int]] = set()

    def commit(self, most: int) -> list[e.Input]:
        """One group commit of up to ``most`` commands, as the committer does it."""
        group, self.queue = self.queue[:most], self.queue[most:]
        if group and isinstance(group[0], BeginLedger):
            self.queue = group[1:] + self.queue
            if not self.full and not self.failed:
                self.ledgers[group[0].ledger] = []
                return [LedgerBegun(group[0].ledger)]
            return [BeginRefused(group[0].ledger, "disk full")]
        begins = [at for at, command in enumerate(group) if isinstance(command, BeginLedger)]
        if begins:
            group, self.queue = group[: begins[0]], group[begins[0] :] + self.queue
        writes = [c for c in group if isinstance(c, e.Write) and c.generation == self.generation]
        if not writes:
            return []
        if self.failed:
            return [e.WriteFailed("i/o error")]
        if self.full:
            self.generation += 1
            return [e.WriteRefused(writes[0].record.number, "disk full", self.generation - 1)]
        self.keep(writes)
        return [e.Durable(writes[-1].record.number, self.generation)]

    def keep(self, writes: list[e.Write]) -> None:
        ledger = list(self.ledgers.values())[-1]
        for write in writes:
            record = write.record
            expected = (ledger[-1].number + 1, ledger[-1].next_offset) if ledger else (0, 0)
            assert (record.number, record.first_offset) == expected, f"{record} does not follow {expected}"
            ledger.append(record)

    def crash(self, survivors: int) -> None:
        """Lose what was not synced, except for the first ``survivors`` of it."""
        writes = [c for c in self.queue if isinstance(c, e.Write) and c.generation == self.generation]
        if not self.failed:
            self.keep(writes[:survivors])
        self.queue = []
        self.generation = 0
        self.failed = False

    def end(self, ledger: str) -> int:
        return self.ledgers[ledger][-1].next_offset if self.ledgers[ledger] else 0

    def state_records(self) -> Iterator[tuple[str, Record]]:
        """As ``LedgerFiles.state_records``: from the newest snapshot on."""
        every = [(name, record) for name, records in self.ledgers.items() for record in records]
        start = max((at for at, (_, record) in enumerate(every) if record.kind is Kind.SNAPSHOT), default=0)
        return iter(every[start:])

    def read(self, read: e.Read) -> e.Records:
        """As ``LedgerReader.read``."""
        if read.ledger not in self.ledgers:
            return e.Records(read.token, [], read.offset)
        found: list[Record] = []
        at, damaged, size = read.offset, 0, 0
        for record in self.ledgers[read.ledger]:
            if record.kind is not Kind.EVENTS or record.next_offset <= at:
                continue
            if (read.ledger, record.number) in self.damaged:
                continue
            if found and size + record.size_bytes > read.max_bytes:
                return e.Records(read.token, found, at, damaged)
            damaged += max(record.first_offset - at, 0)
            at = record.next_offset
            size += record.size_bytes
            found.append(record)
        end = self.end(read.ledger)
        return e.Records(read.token, found, max(at, end), damaged + max(0, end - at))

    def survey(self, ledger: str) -> e.Surveyed | None:
        """As the shell answers ``Survey``."""
        if ledger not in self.ledgers:
            return None
        events = [record for record in self.ledgers[ledger] if record.kind is Kind.EVENTS]
        topics = {topic for record in events for topic in Batch.decode(record.index, record.payload).topics}
        newest_ms = max((record.time_ms for record in events), default=0)
        size_bytes = sum(record.size_bytes for record in self.ledgers[ledger])
        return e.Surveyed(ledger, newest_ms, tuple(sorted(topics)), size_bytes)

    def drop(self, ledger: str) -> None:
        """Its files are gone."""
        assert ledger != list(self.ledgers)[-1], "the open ledger is never dropped"
        self.ledgers.pop(ledger, None)


class Node:
    """One bus instance. ``observe`` sees every message that it sends to a client."""

    def __init__(self, world: World, region: str, name: str, limits: Limits) -> None:
        self.world = world
        self.region = region
        self.name = name
        self.limits = limits
        self.disk = Disk()
        self.endpoint = f"tcp://{name}"
        self.up = False
        self.starts = 0
        self.links: list[e.PeerLink] = []
        self.topics = e.ApplyTopics(0, [])
        self.observe: Callable[[bytes, p.Message, tuple[bytes, ...]], None] = lambda *_: None
        self.reads: deque[e.Read] = deque()
        self.surveys: deque[str] = deque()
        self.start()

    def start(self) -> None:
        assert not self.up
        self.starts += 1
        self.up = True
        closed = {name: self.disk.end(name) for name in self.disk.ledgers}
        epoch = 1 + max((int(name.rpartition("/")[2]) for name in closed), default=-1)
        ledger = f"{self.region}/{self.name}/{epoch}"
        state = list(self.disk.state_records())
        self.disk.ledgers[ledger] = []
        self.core = Broker(self.region, self.name, ledger, closed, self.limits)
        self._execute(self.core.start(iter(state), self.world.now_ns))
        self.handle(self.topics)
        self.handle(e.ApplyLinks(self.links))

    def crash(self, survivors: int = 0) -> None:
        """kill -9; ``survivors``: how many unconfirmed writes had reached the disk all the same."""
        self.up = False
        self.disk.crash(survivors)
        self.reads.clear()
        self.surveys.clear()
        self.world.disconnect(self)

    def hold_links(self, links: list[e.PeerLink]) -> None:
        self.links = links
        if self.up:
            self.handle(e.ApplyLinks(links))

    def handle(self, event: e.Input) -> None:
        self._execute(self.core.handle(event, self.world.now_ns))

    def receive(self, session: bytes, message: p.Message, *frames: bytes) -> None:
        if self.up:
            self.handle(e.Received(session, [p.encode(message), *frames]))

    def commit(self, most: int = 1000) -> None:
        if self.up:
            for answer in self.disk.commit(most):
                self.handle(answer)

    def read(self) -> None:
        if self.up and self.reads:
            self.handle(self.disk.read(self.reads.popleft()))

    def survey(self) -> None:
        """Answer what the core wants to know of closed ledgers."""
        while self.up and self.surveys:
            if (answer := self.disk.survey(self.surveys.popleft())) is not None:
                self.handle(answer)

    def _execute(self, effects: list[e.Effect]) -> None:
        for effect in effects:
            match effect:
                case e.Write() | e.RollSegment() | BeginLedger():
                    self.disk.queue.append(effect)
                case e.Read():
                    assert len(self.reads) < self.limits.reads_waiting, "more reads than promised"
                    self.reads.append(effect)
                case e.Survey(ledger):
                    self.surveys.append(ledger)
                case DropLedger(ledger):
                    self.disk.drop(ledger)
                case e.Send(session, message, frames):
                    self._send(session, message, tuple(bytes(frame) for frame in frames))
                case e.SendPeer(endpoint, message, frames):
                    self.world.to_peer(self, endpoint, [p.encode(message), *frames])

    def _send(self, session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> None:
        message = p.decode_from_instance([p.encode(message), *frames])
        if not self.world.to_session(self, session, message, frames):
            self.world.unroutable.append((self, self.starts, session))
        self.observe(session, message, frames)


class World:
    """Nodes, connections and time. A connection is the queue of what an instance has sent and nobody has read yet."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000 * MILLISECOND
        self.nodes: dict[str, Node] = {}
        self.connections: dict[tuple[str, bytes], deque[tuple[p.Message, tuple[bytes, ...]]]] = {}
        self.unroutable: list[tuple[Node, int, bytes]] = []
        self._to_origin: deque[tuple[Node, int, str, list[bytes]]] = deque()
        self._dialled: dict[bytes, tuple[Node, int, str]] = {}

    def node(self, region: str, name: str, limits: Limits = SMALL) -> Node:
        node = self.nodes[name] = Node(self, region, name, limits)
        return node

    # -- clients -------------------------------------------------------------------------------------------------------

    def connect(self, node: Node, session: bytes) -> deque[tuple[p.Message, tuple[bytes, ...]]]:
        return self.connections.setdefault((node.name, session), deque())

    def disconnect(self, node: Node, session: bytes | None = None) -> None:
        for key in [key for key in self.connections if key[0] == node.name and session in (None, key[1])]:
            del self.connections[key]

    def to_session(self, node: Node, session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> bool:
        queue = self.connections.get((node.name, session))
        if queue is not None:
            queue.append((message, frames))
        return queue is not None

    # -- links ---------------------------------------------------------------------------------------------------------

    def to_peer(self, node: Node, endpoint: str, frames: list[bytes]) -> None:
        self._to_origin.append((node, node.starts, endpoint, frames))

    def move_links(self, lose: Callable[[], bool] = lambda: False) -> bool:
        """Carry what links have said so far to the other side; ``lose`` decides about each message."""
        moved = False
        for _ in range(len(self._to_origin)):
            node, start, endpoint, frames = self._to_origin.popleft()
            origin = next((n for n in self.nodes.values() if n.endpoint == endpoint), None)
            if origin is not None and node.up and node.starts == start and origin.up and not lose():
                session = f"{node.name}#{start}>{endpoint}".encode()
                self._dialled[session] = (node, start, endpoint)
                self.connect(origin, session)
                origin.handle(e.Received(session, frames))
                moved = True
        for (name, session), queue in list(self.connections.items()):
            if session not in self._dialled:
                continue
            node, start, endpoint = self._dialled[session]
            for _ in range(len(queue)):
                message, frames = queue.popleft()
                if node.up and node.starts == start and not lose():
                    node.handle(e.PeerReceived(endpoint, [p.encode(message), *frames]))
                    moved = True
            if not node.up or node.starts != start:
                self.disconnect(self.nodes[name], session)
        return moved

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, milliseconds: int = 20) -> None:
        self.now_ns += milliseconds * MILLISECOND
        self.tell_unroutable()
        for node in self.nodes.values():
            if node.up:
                node.handle(e.Tick())

    def tell_unroutable(self) -> None:
        told, self.unroutable = self.unroutable, []
        for node, start, session in told:
            if node.up and node.starts == start:
                node.handle(e.Unroutable(session))


def events_in(frames: tuple[bytes, ...]) -> list[tuple[str, int, bytes]]:
    """(topic, key hash, bytes) of the events of a Deliver's frames."""
    if not frames[0]:
        return []
    batch = Batch.checked(frames[0], frames[1], set())
    return [(topic, key, bytes(body)) for topic, key, body in batch.events()]


def offsets_of(ranges: list[tuple[int, int]]) -> list[int]:
    return [offset for start, end in ranges for offset in range(start, end)]
