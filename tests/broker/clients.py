"""Producers and consumers of a simulated world: they do what the client library does, and what it should not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedbus.batch import BatchBuilder
from fedbus.broker import protocol as p
from tests.broker.simulation import Node, events_in, offsets_of

if TYPE_CHECKING:
    from tests.broker.history import Run

Place = tuple[str, int]  # origin ledger, offset


class Producer:
    """Sends batches in order, several at a time; sends again what was refused or unanswered, the oldest first."""

    def __init__(self, run: Run, name: str, node: Node) -> None:
        self.run = run
        self.name = name
        self.node = node
        self.sequence = 0
        self.waiting: dict[int, tuple[p.Publish, tuple[bytes, bytes], list[bytes]]] = {}
        self.requests: dict[int, int] = {}
        self.paused = False
        self.session = b""
        self.connect()

    def connect(self) -> None:
        self.session = self.run.session("p")
        self.inbox = self.run.world.connect(self.node, self.session)
        self.start = self.node.starts
        self.node.receive(self.session, p.Hello(1, 1, "client", self.name))

    def publish(self, topic: str, keys: list[int]) -> None:
        self.sequence += 1
        builder, bodies = BatchBuilder(), []
        for n, key in enumerate(keys):
            bodies.append(f"{self.name}/{self.sequence}/{n}/{key}".encode())
            builder.add(topic, key, bodies[-1])
            self.run.topic_of[bodies[-1]] = topic
        batch = builder.build()
        request = p.Publish(self.run.number(), self.name, self.sequence)
        self.waiting[self.sequence] = (request, (bytes(batch.index_bytes), bytes(batch.payload)), bodies)
        if not self.paused:
            self._send(self.sequence)

    def _send(self, sequence: int) -> None:
        old, frames, bodies = self.waiting[sequence]
        request = p.Publish(self.run.number(), old.producer, old.sequence)
        self.requests[request.request] = sequence
        self.run.bodies_of[request.request] = bodies
        self.node.receive(self.session, request, *frames)

    def send_again(self, node: Node | None = None) -> None:
        """Everything unanswered once more, to the same instance or to another."""
        if node is not None and node is not self.node:
            self.node = node
            self.connect()
        elif self.start != self.node.starts or (self.node.name, self.session) not in self.run.world.connections:
            self.connect()
        self.paused = False
        for sequence in sorted(self.waiting):
            self._send(sequence)

    def hear(self) -> None:
        while self.inbox:
            message, _ = self.inbox.popleft()
            if isinstance(message, p.Published):
                sequence = self.requests.pop(message.request)
                self.waiting.pop(sequence, None)
            elif isinstance(message, p.Refused) and self.requests.pop(message.request, None) is not None:
                assert message.retryable, f"refused for good: {message.detail}"
                self.paused = True
                if message.code == "unknown_session":
                    self.run.world.disconnect(self.node, self.session)


@dataclass
class Subscription:
    """What is known of one group at one node, or of one live consumer there."""

    node: Node
    filters: list[str]
    start: p.Start
    group: str
    tails: dict[str, int] | None = None  # where everything stood when it was answered for the first time
    first: list[bytes] = field(default_factory=list)  # bodies in the order of their first sending
    sent: set[bytes] = field(default_factory=set)
    got: set[bytes] = field(default_factory=set)
    durable_acks: set[Place] = field(default_factory=set)
    forgiven: set[bytes] = field(default_factory=set)


class Consumer:
    """A member of a group, or (without group) a live subscription with a cursor of its own."""

    def __init__(self, run: Run, subscription: Subscription, group: str, credit: int) -> None:
        self.run = run
        self.of = subscription
        self.group = group
        self.credit = credit
        self.held: list[tuple[p.Deliver, list[bytes]]] = []
        self.acks: dict[int, list[Place]] = {}
        self.cursor: dict[str, int] = {}
        self.places: list[Place] = []
        self.member = run.session("m").decode()
        self.connect()

    @property
    def node(self) -> Node:
        return self.of.node

    def connect(self) -> None:
        self.held.clear()
        self.acks.clear()
        self.session = self.run.session("c")
        self.run.consumers_by_session[self.session] = self
        self.inbox = self.run.world.connect(self.node, self.session)
        self.start = self.node.starts
        again = bool(self.cursor) and not self.group
        start = p.Start("cursor", cursor=dict(self.cursor)) if again else self.of.start
        self.at_latest = start.kind == "latest" and not self.group
        self.node.receive(self.session, p.Hello(1, 1, "client", self.member))
        request = p.Subscribe(
            self.run.number(), 1, self.of.filters, start, self.credit, self.group, self.member, ack_deadline_ms=400
        )
        self.node.receive(self.session, request)

    def gone(self) -> bool:
        return self.start != self.node.starts or (self.node.name, self.session) not in self.run.world.connections

    def leave(self) -> None:
        self.node.receive(self.session, p.Goodbye())
        self.run.world.disconnect(self.node, self.session)

    def hear(self) -> None:
        while self.inbox:
            message, frames = self.inbox.popleft()
            if isinstance(message, p.Deliver):
                self._take(message, [body for _, _, body in events_in(frames)])
            elif isinstance(message, p.Subscribed):
                if self.of.tails is None:
                    self.of.tails = message.tails
                if self.at_latest:
                    for ledger, offset in message.tails.items():
                        self.cursor.setdefault(ledger, offset)
            elif isinstance(message, p.Ok):
                self.acks.pop(message.request, None)
            elif isinstance(message, p.Ended) or getattr(message, "code", "") in ("unknown_session", "storage"):
                self.run.world.disconnect(self.node, self.session)

    def _take(self, deliver: p.Deliver, bodies: list[bytes]) -> None:
        if self.group:
            self.held.append((deliver, bodies))
            return
        for place in ((deliver.ledger, offset) for offset in offsets_of(deliver.ranges)):
            assert place not in self.places, f"live: {place} came twice"
            self.places.append(place)
        self.cursor[deliver.ledger] = max(deliver.next_offset, self.cursor.get(deliver.ledger, 0))
        self.of.got.update(bodies)
        if bodies:
            self.node.receive(self.session, p.Credit(1, len(bodies)))

    def settle(self, how: str) -> None:
        """Process the oldest delivery held: ack, wait (ack with an answer), nack, extend, part (ack half) or forget."""
        if not self.held:
            return
        deliver, bodies = self.held[0]
        settled = [p.Settled(deliver.ledger, deliver.ranges)]
        if how == "extend":
            self.node.receive(self.session, p.Extend(1, settled))
            return
        self.held.pop(0)
        places = [(deliver.ledger, offset) for offset in offsets_of(deliver.ranges)]
        if how == "part":
            places, bodies = places[::2], bodies[::2]
            settled = [p.Settled(deliver.ledger, [(offset, offset + 1) for _, offset in places])]
        if how in ("ack", "wait", "part"):
            self.of.got.update(bodies)
            request = self.run.number() if how == "wait" else 0
            if request:
                self.acks[request] = places
            self.node.receive(self.session, p.Ack(1, settled, request))
        elif how == "nack":
            self.node.receive(self.session, p.Nack(1, settled, delay_ms=100))
        self.node.receive(self.session, p.Credit(1, len(deliver.ranges) and sum(b - a for a, b in deliver.ranges)))
