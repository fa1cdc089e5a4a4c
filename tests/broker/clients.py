"""Producers and consumers of a simulated world: they do what the client library does, and what it should not."""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedbus.batch import BatchBuilder
from fedbus.broker import protocol as p
from tests.broker.holding import Holding, Place
from tests.broker.simulation import Node, events_in, offsets_of

if TYPE_CHECKING:
    from tests.broker.history import Run

DEADLINE_MS = 400


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
    options: p.GroupOptions = field(default_factory=lambda: p.GroupOptions(ack_deadline_ms=DEADLINE_MS))
    holding: Holding = field(default_factory=lambda: Holding(DEADLINE_MS))
    identity: tuple[int, int] = (0, 1)  # of the group, as of its newest delivery
    newest: dict[tuple[str, str, int], int] = field(default_factory=dict)  # per ledger, topic and key: first deliveries

    def begin(self, identity: tuple[int, int]) -> None:
        """The group was moved or made anew: what was before counts for nothing."""
        self.identity = identity
        for known in (self.sent, self.got, self.durable_acks, self.newest):
            known.clear()
        self.holding.clear()

    def check_order(self, place: Place, topic: str, key: int) -> None:
        """V4: first deliveries of a key follow its ledger (of a linked topic: its origin's)."""
        if key:
            stream = (place[0], topic, key)
            newest = self.newest.get(stream, -1)
            assert newest < place[1], f"V4: {place} of key {key} after {newest}"
            self.newest[stream] = place[1]


class Consumer:
    """A member of a group, or (without group) a live subscription with a cursor of its own."""

    def __init__(self, run: Run, subscription: Subscription, group: str, credit: int) -> None:
        self.run = run
        self.of = subscription
        self.group = group
        self.credit = credit
        self.held: list[tuple[p.Deliver, list[bytes], tuple[int, int]]] = []
        self.acks: dict[int, tuple[tuple[int, int], list[Place]]] = {}
        self.cursor: dict[str, int] = {}
        self.places: list[Place] = []
        self.member = run.session("m").decode()
        self.session = b""
        self.identities: deque[tuple[int, int]] = deque()  # of the group at each delivery under way
        self.connect()

    @property
    def node(self) -> Node:
        return self.of.node

    def connect(self) -> None:
        if self.session:
            self.of.holding.gone(self.session)
        self.held.clear()
        self.acks.clear()
        self.session = self.run.session("c")
        self.run.consumers_by_session[self.session] = self
        self.inbox = self.run.world.connect(self.node, self.session)
        self.identities.clear()
        self.start = self.node.starts
        again = bool(self.cursor) and not self.group
        start = p.Start("cursor", cursor=dict(self.cursor)) if again else self.of.start
        self.at_latest = start.kind == "latest" and not self.group
        self.node.receive(self.session, p.Hello(1, 1, "client", self.member))
        request = p.Subscribe(
            self.run.number(), 1, self.of.filters, start, self.credit, self.group, self.member, self.of.options
        )
        self.node.receive(self.session, request)

    def identify(self) -> None:
        """Which group of that name a delivery is from: what was before it was moved or made anew counts for nothing."""
        group = self.node.core.subscriptions.groups.get(self.group)
        assert group is not None
        assert not group.spec.options.paused, "a paused group delivers nothing"
        if group.spec.identity != self.of.identity:
            self.of.begin(group.spec.identity)
        self.identities.append(group.spec.identity)

    def gone(self) -> bool:
        return self.start != self.node.starts or (self.node.name, self.session) not in self.run.world.connections

    def leave(self) -> None:
        self.of.holding.gone(self.session)
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
            self.held.append((deliver, bodies, self.identities.popleft()))
            return
        for place in ((deliver.ledger, offset) for offset in offsets_of(deliver.ranges)):
            assert place not in self.places, f"live: {place} came twice"
            self.places.append(place)
        self.cursor[deliver.ledger] = max(deliver.next_offset, self.cursor.get(deliver.ledger, 0))
        self.of.got.update(bodies)
        if bodies:
            self.node.receive(self.session, p.Credit(1, len(bodies)))

    def settle(self, how: str) -> None:
        """Process the oldest delivery held: ack, wait (ack with an answer), nack, extend, part (ack half) or forget.

        What a consumer cannot process it always gives back, if the group has an end for such events.
        """
        if not self.held:
            return
        deliver, bodies, identity = self.held[0]
        every = [(deliver.ledger, offset) for offset in offsets_of(deliver.ranges)]
        now_ns = self.run.world.now_ns
        if how == "extend":
            self.of.holding.extended(every, now_ns)
            self.node.receive(self.session, p.Extend(1, [p.Settled(deliver.ledger, deliver.ranges)]))
            return
        self.held.pop(0)
        chosen = [(place, body) for place, body in zip(every, bodies, strict=True) if not self._poisonous(body)]
        back = [place for place, body in zip(every, bodies, strict=True) if self._poisonous(body)]
        if how == "part":
            chosen = chosen[::2]
        places = [place for place, _ in chosen]
        if how in ("ack", "wait", "part"):
            if identity == self.of.identity:
                self.of.got.update(body for _, body in chosen)
            request = self.run.number() if how == "wait" else 0
            if request:
                self.acks[request] = (identity, places)
            self.of.holding.settled(self.session, places)
            self.node.receive(self.session, p.Ack(1, _settled(deliver.ledger, places), request))
            self._give_back(deliver.ledger, back)
        elif how == "nack":
            self._give_back(deliver.ledger, every, delay_ms=100)
        self.node.receive(self.session, p.Credit(1, len(every)))

    def _give_back(self, ledger: str, places: list[Place], delay_ms: int = -1) -> None:
        if places:
            self.of.holding.given_back(self.session, places)
            self.node.receive(self.session, p.Nack(1, _settled(ledger, places), delay_ms))

    def _poisonous(self, body: bytes) -> bool:
        return bool(self.group and self.of.options.max_deliveries) and zlib.crc32(body) % 8 == 0


def _settled(ledger: str, places: list[Place]) -> list[p.Settled]:
    return [p.Settled(ledger, [(offset, offset + 1) for _, offset in places])]
