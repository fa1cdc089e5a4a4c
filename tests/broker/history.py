"""Clients of a simulated world, the history they make, and the invariants V1 to V6 checked against it.

Invariants are checked as messages leave a node, so that what was sent to a consumer that has just gone counts too.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from fedbus.batch import BatchBuilder
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.record import Kind
from fedbus.broker.stored import Stored
from fedbus.topic import FilterSet
from tests.broker.simulation import Node, World, events_in, offsets_of

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
            elif isinstance(message, p.Refused) and message.code in ("unknown_session", "storage"):
                self.run.world.disconnect(self.node, self.session)
            elif isinstance(message, p.Ended):
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


class Run:
    """A world with clients. Every method is a step a test may take; `settle` ends the faults and checks what must hold."""

    def __init__(self) -> None:
        self.world = World()
        self.bodies_of: dict[int, list[bytes]] = {}  # of a publish request
        self.acked: dict[str, dict[bytes, Place]] = defaultdict(dict)  # node → body → where it was acknowledged
        self.topic_of: dict[bytes, str] = {}
        self.truth: dict[Place, bytes] = {}
        self.ends: dict[str, int] = {}
        self.producers: list[Producer] = []
        self.consumers: list[Consumer] = []
        self.consumers_by_session: dict[bytes, Consumer] = {}
        self.subscriptions: dict[tuple[str, str], Subscription] = {}
        self.wants: dict[str, dict[str, list[str]]] = defaultdict(dict)  # receiver → origin node → filters ever wanted
        self._numbers = 0

    # -- steps ---------------------------------------------------------------------------------------------------------

    def session(self, kind: str) -> bytes:
        return f"{kind}{self.number()}".encode()

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def node(self, region: str, name: str) -> Node:
        node = self.world.node(region, name)
        node.observe = lambda session, message, frames: self._sent(node, session, message, frames)
        return node

    def producer(self, node: Node) -> Producer:
        self.producers.append(Producer(self, f"p{len(self.producers)}", node))
        return self.producers[-1]

    def consumer(self, node: Node, group: str, filters: list[str], start: str, credit: int) -> Consumer:
        key = (node.name, group or f"live{self.number()}")
        how = p.Start(start)
        subscription = self.subscriptions.setdefault(key, Subscription(node, sorted(filters), how))
        self.consumers.append(Consumer(self, subscription, group, credit))
        return self.consumers[-1]

    def link(self, receiver: Node, origin: Node, filters: list[str]) -> None:
        """Pull these filters of all ledgers of the origin from now on."""
        self.wants[receiver.name][origin.name] = filters
        links = []
        for name, patterns in self.wants[receiver.name].items():
            for ledger in self.world.nodes[name].disk.ledgers:
                wants = [p.LinkFilter(pattern, 0) for pattern in patterns]
                links.append(e.PeerLink(ledger, self.world.nodes[name].endpoint, wants))
        receiver.hold_links(links)

    def relink(self) -> None:
        """What the manager does when an origin has a new ledger."""
        for receiver, origins in self.wants.items():
            for origin, filters in origins.items():
                self.link(self.world.nodes[receiver], self.world.nodes[origin], filters)

    def acknowledged(self, node: Node, body: bytes, place: Place) -> None:
        assert self.truth.setdefault(place, body) == body, f"V3: {place} is {self.truth[place]!r} and {body!r}"
        self.acked[node.name][body] = place

    # -- invariants at every message ------------------------------------------------------------------------------------

    def _sent(self, node: Node, session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> None:
        if isinstance(message, p.Published):
            for n, body in enumerate(self.bodies_of[message.request]):
                self.acknowledged(node, body, (message.ledger, message.first_offset + n))
        consumer = self.consumers_by_session.get(session)
        if consumer is None:
            return
        if isinstance(message, p.Ok) and message.request in consumer.acks:
            consumer.of.durable_acks.update(consumer.acks[message.request])
        if not isinstance(message, p.Deliver):
            return
        events = events_in(frames)
        offsets = offsets_of(message.ranges)
        assert len(events) == len(offsets), "a deliver announces what it holds"
        for (topic, key, body), offset in zip(events, offsets, strict=True):
            place = (message.ledger, offset)
            assert self.topic_of.get(body) == topic, f"V2: {body!r} was never published to {topic}"
            assert self.truth.setdefault(place, body) == body, f"V3: {place} is {self.truth[place]!r} and {body!r}"
            assert FilterSet(consumer.of.filters).matches(topic), "not asked for"
            if consumer.group:
                assert place not in consumer.of.durable_acks, f"V5: {place} was acknowledged durably"
                if place not in consumer.of.sent:
                    consumer.of.sent.add(place)
                    self._check_order(consumer.of, place, topic, key)

    def _check_order(self, of: Subscription, place: Place, topic: str, key: int) -> None:
        """V4: first deliveries of a key follow its ledger (of a linked topic: its origin's)."""
        if key:
            newest = of.__dict__.setdefault("newest", {})
            stream = (place[0], topic, key)
            assert newest.get(stream, -1) < place[1], f"V4: {place} of key {key} after {newest[stream]}"
            newest[stream] = place[1]

    # -- the end -------------------------------------------------------------------------------------------------------

    def move(self) -> None:
        """Let everything happen once that is under way; consumers and producers listen."""
        for node in self.world.nodes.values():
            node.commit()
            for _ in range(len(node.reads)):
                node.read()
        self.world.move_links()
        for client in (*self.producers, *self.consumers):
            client.hear()

    def settle(self) -> None:
        """The faults end: everybody comes back, consumers acknowledge; then everything must have arrived."""
        for node in self.world.nodes.values():
            node.disk.full = False
            if node.up and node.disk.failed:
                node.crash()
            if not node.up:
                node.start()
        self.relink()
        for key, subscription in self.subscriptions.items():
            if not any(c.of is subscription and not c.gone() for c in self.consumers):
                lost = next((c for c in self.consumers if c.of is subscription), None)
                self.consumers.append(lost or Consumer(self, subscription, key[1], 20))
        quiet = 0
        for _ in range(600):
            before = self._progress()
            self.move()
            for producer in self.producers:
                if producer.waiting:
                    producer.send_again()
            for consumer in dict.fromkeys(self.consumers):
                if consumer.gone():
                    consumer.connect()
                consumer.node.receive(consumer.session, p.Ping())
                while consumer.held:
                    consumer.settle("wait")
            self.move()
            self.world.tick(150)
            quiet = quiet + 1 if before == self._progress() else 0
            if quiet > 80:  # longer than sessions live without a sign
                break
        self.check()

    def _progress(self) -> tuple[int, ...]:
        return (
            sum(len(acked) for acked in self.acked.values()),
            sum(len(consumer.of.got) for consumer in self.consumers),
            sum(node.core.links.linked_events for node in self.world.nodes.values()),
        )

    def stored(self, node: Node) -> list[tuple[Stored, str]]:
        return [
            (Stored(ledger, record), record.events_meta().producer)
            for ledger, records in node.disk.ledgers.items()
            for record in records
            if record.kind is Kind.EVENTS
        ]

    def check(self) -> None:
        for producer in self.producers:
            assert not producer.waiting, f"unanswered: {list(producer.waiting)} of {producer.name}"
        for node in self.world.nodes.values():
            self._check_disk(node)
            self._check_links(node)
        for subscription in self.subscriptions.values():
            self._check_delivered(subscription)
            self._check_bounded(subscription.node)

    def _check_disk(self, node: Node) -> None:
        seen: set[tuple[bytes, str]] = set()
        newest: dict[tuple[str, str, int], int] = {}
        for stored, producer in self.stored(node):
            for (topic, key, body), offset in zip(stored.batch.events(), stored.offsets, strict=True):
                place, text = (stored.origin_ledger, offset), bytes(body)
                assert self.truth.setdefault(place, text) == text, f"V3: {place} is not what was seen before"
                identity = (text, stored.origin_ledger if stored.origin else "here")
                assert identity not in seen, f"V5/V6: {text!r} is stored twice at {node.name}"
                seen.add(identity)
                if producer and key:
                    sequence = int(text.split(b"/")[1])
                    stream = (stored.ledger, producer, key)
                    assert newest.get(stream, -1) <= sequence, f"V4: {text!r} is stored behind {newest[stream]}"
                    newest[stream] = sequence

    def _check_links(self, node: Node) -> None:
        here = {
            (stored.origin_ledger, offset)
            for stored, _ in self.stored(node)
            if stored.origin is not None
            for offset in stored.offsets
        }
        assert all(not ledger.startswith(f"{node.region}/") for ledger, _ in here), "one hop only: its own events came back"
        for name, patterns in self.wants[node.name].items():
            filters = FilterSet(patterns)
            for stored, _ in self.stored(self.world.nodes[name]):
                record_damaged = any(ledger == stored.ledger for ledger, _ in self.world.nodes[name].disk.damaged)
                for (topic, _, body), offset in zip(stored.batch.events(), stored.offsets, strict=True):
                    if stored.origin is None and filters.matches(topic) and not record_damaged:
                        place = (stored.origin_ledger, offset)
                        assert place in here, f"V6: {bytes(body)!r} at {place} never crossed to {node.name}"

    def _check_delivered(self, of: Subscription) -> None:
        if of.tails is None:
            return
        filters = FilterSet(of.filters)
        damaged = {
            bytes(body)
            for stored, _ in self.stored(of.node)
            if any(ledger == stored.ledger for ledger, _ in of.node.disk.damaged)
            for _, _, body in stored.batch.events()
        }
        for body, place in self.acked[of.node.name].items():
            if filters.matches(self.topic_of[body]) and (of.start.kind == "earliest" or _after(place, of.tails)):
                assert body in of.got or body in damaged, f"V1: {body!r} never reached {of.filters} at {of.node.name}"
        if of.start.kind == "earliest":
            for stored, _ in self.stored(of.node):
                for topic, _, body in stored.batch.events():
                    if stored.origin is not None and filters.matches(topic):
                        text = bytes(body)
                        assert text in of.got or text in damaged, f"V1: linked {text!r} never reached {of.filters}"

    def _check_bounded(self, node: Node) -> None:
        core = node.core
        assert core.ledgers.pending_bytes == 0
        assert not core.ledgers._answers
        for group in core.subscriptions.groups:
            left = list(group.deliveries)
            assert group.settlement.outstanding == 0, f"{group.spec.name}: outstanding {group.settlement.outstanding}"
            assert not left, f"{group.spec.name} keeps {left}"
            assert group.settlement.unsettled("x/y/0", [(0, 0)]) == []
            assert all(member.held_bytes == 0 and not member.behind for member in group.members)


def _after(place: Place, tails: dict[str, int]) -> bool:
    """Whether an event was stored after the tails (of the newest ledgers) were told."""
    newest = max(int(ledger.rpartition("/")[2]) for ledger in tails)
    return int(place[0].rpartition("/")[2]) > newest or place[1] >= tails.get(place[0], place[1] + 1)
