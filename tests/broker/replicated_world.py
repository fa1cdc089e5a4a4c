"""A simulated region that replicates: nodes, a keeper, a network that loses messages or is cut one way, and time."""

from __future__ import annotations

from collections import deque
from random import Random

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.control.holders import Settings
from fedbus.ledger_record import LedgerRecord
from fedbus.limits import Limits
from tests.broker.replica_keeper import Keeper
from tests.broker.replica_node import ReplicaNode
from tests.broker.simulation import MILLISECOND

TAKEOVER_NS = 2_000_000_000


class ReplicatedWorld:
    """Connections between nodes are in order; what is lost on them is lost (a connection broke)."""

    def __init__(self, random: Random, limits: Limits, settings: Settings) -> None:
        self.random = random
        self.limits = limits
        self.now_ns = 1_000_000 * MILLISECOND
        self.nodes: dict[str, ReplicaNode] = {}
        self.connections: dict[tuple[str, bytes], deque[tuple[p.Message, tuple[bytes, ...]]]] = {}
        self.keeper = Keeper(self, settings)
        self.cuts: set[tuple[str, str]] = set()  # (from, to): nothing arrives
        self.lossy = 0.0
        self.observe = lambda node, session, message, frames: None
        self.decided = lambda record: None
        self._calls: dict[tuple[str, str], deque[tuple[int, list[bytes]]]] = {}  # (from, endpoint)
        self._answers: dict[tuple[str, str], deque[tuple[int, list[bytes]]]] = {}  # (from, to)
        self._sessions: dict[bytes, tuple[str, int]] = {}

    def node(self, name: str) -> ReplicaNode:
        node = self.nodes[name] = ReplicaNode(self, name, self.limits)
        return node

    def cut(self, source: str, target: str) -> bool:
        """Whether nothing arrives there."""
        return (source, target) in self.cuts

    # -- clients -------------------------------------------------------------------------------------------------------

    def connect(self, node: ReplicaNode, session: bytes) -> deque[tuple[p.Message, tuple[bytes, ...]]]:
        return self.connections.setdefault((node.name, session), deque())

    def disconnect(self, node: ReplicaNode, session: bytes | None = None) -> None:
        for key in [key for key in self.connections if key[0] == node.name and session in (None, key[1])]:
            del self.connections[key]

    def forget(self, node: ReplicaNode) -> None:
        """It has crashed: its connections are gone, and what it had not sent."""
        self.disconnect(node)

    def to_session(self, node: ReplicaNode, session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> None:
        if session in self._sessions:
            name, start = self._sessions[session]
            self._answers.setdefault((node.name, name), deque()).append((start, [p.encode(message), *frames]))
            return
        message = p.decode_from_instance([p.encode(message), *frames])
        queue = self.connections.get((node.name, session))
        if queue is not None:
            queue.append((message, frames))
            self.observe(node, session, message, frames)

    # -- between nodes -------------------------------------------------------------------------------------------------

    def to_peer(self, node: ReplicaNode, endpoint: str, frames: list[bytes]) -> None:
        self._calls.setdefault((node.name, endpoint), deque()).append((node.starts, frames))

    def move(self, most: int = 1000) -> bool:
        """Carry up to ``most`` messages of every connection to the other side."""
        moved = False
        for (name, endpoint), queue in list(self._calls.items()):
            target = endpoint.removeprefix("tcp://")
            for _ in range(min(most, len(queue))):
                start, frames = queue.popleft()
                node = self.nodes.get(target)
                if node is None or not node.up or self._lost(name, target):
                    continue
                session = f"{name}#{start}>{endpoint}".encode()
                self._sessions[session] = (name, start)
                node.handle(e.Received(session, frames))
                moved = True
        for (source, name), queue in list(self._answers.items()):
            for _ in range(min(most, len(queue))):
                start, frames = queue.popleft()
                node = self.nodes[name]
                if node.up and node.starts == start and not self._lost(source, name):
                    node.handle(e.PeerReceived(f"tcp://{source}", frames))
                    moved = True
        return moved

    def _lost(self, source: str, target: str) -> bool:
        return self.cut(source, target) or (self.lossy > 0 and self.random.random() < self.lossy)

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, milliseconds: int = 20) -> None:
        self.now_ns += milliseconds * MILLISECOND
        for node in self.nodes.values():
            if node.alive:
                node.handle(e.Tick())


def settings(takeover_ns: int = TAKEOVER_NS) -> Settings:
    """As a region of three has them, with less patience."""
    return Settings(takeover_ns=takeover_ns, brake_ns=6 * TAKEOVER_NS)


def all_members(record: LedgerRecord) -> set[str]:
    """The names of its members."""
    return {member.instance.rpartition("/")[2] for member in record.members}
