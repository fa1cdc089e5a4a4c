"""A simulated world with clients and the history they make.

What can be checked at a message is checked as it leaves a node, so that what was sent to a consumer that has just gone
counts too; the rest when the faults have stopped (see ``promises.py``).
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.topic import FilterSet
from tests.broker.clients import Consumer, Place, Producer, Subscription
from tests.broker.promises import check, check_delivered
from tests.broker.simulation import SMALL, Node, World, events_in, offsets_of

ROLLING = msgspec.structs.replace(SMALL, ledger_roll_bytes=6000)


class Run:
    """A world with clients. Every method is a step a test may take; ``settle`` ends the faults and checks all."""

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
        node = self.world.node(region, name, ROLLING)
        node.observe = lambda session, message, frames: self._sent(node, session, message, frames)
        return node

    def producer(self, node: Node) -> Producer:
        self.producers.append(Producer(self, f"p{len(self.producers)}", node))
        return self.producers[-1]

    def consumer(
        self, node: Node, group: str, filters: list[str], start: str, credit: int, options: p.GroupOptions | None = None
    ) -> Consumer:
        key = (node.name, group or f"live{self.number()}")
        how = p.Start(start)
        subscription = self.subscriptions.setdefault(key, Subscription(node, sorted(filters), how, group))
        subscription.options = options or subscription.options
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

    # -- invariants at every message -----------------------------------------------------------------------------------

    def _sent(self, node: Node, session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> None:
        if isinstance(message, p.Published):
            for n, body in enumerate(self.bodies_of[message.request]):
                self.acknowledged(node, body, (message.ledger, message.first_offset + n))
        consumer = self.consumers_by_session.get(session)
        if consumer is None:
            return
        if isinstance(message, p.Ended):
            consumer.of.holding.gone(session)
        if isinstance(message, p.Ok) and message.request in consumer.acks:
            identity, places = consumer.acks[message.request]
            if identity == consumer.of.identity:
                consumer.of.durable_acks.update(places)
        if not isinstance(message, p.Deliver):
            return
        if consumer.group:
            consumer.identify()
        events = events_in(frames)
        offsets = offsets_of(message.ranges)
        assert len(events) == len(offsets), "a deliver announces what it holds"
        for (topic, key, body), offset in zip(events, offsets, strict=True):
            place = (message.ledger, offset)
            assert self.topic_of.get(body) == topic, f"V2: {body!r} was never published to {topic}"
            assert self.truth.setdefault(place, body) == body, f"V3: {place} is {self.truth[place]!r} and {body!r}"
            assert FilterSet(consumer.of.filters).matches(topic), "not asked for"
            if consumer.group:
                self._delivered_to_group(consumer, session, place, topic, key, message.delivery)

    def _delivered_to_group(
        self, consumer: Consumer, session: bytes, place: Place, topic: str, key: int, delivery: int
    ) -> None:
        of = consumer.of
        assert place not in of.durable_acks, f"V5: {place} was acknowledged durably"
        most = of.options.max_deliveries
        assert not most or delivery <= most, f"delivery {delivery} of {place}: {most} are allowed"
        if key:
            alive = {each.id for each in of.node.core.sessions}
            others = [
                place
                for other, place in of.holding.others(key, session, self.world.now_ns)
                if other in alive and (of.node.name, other) in self.world.connections
            ]
            assert not others, f"rule 11: another member still holds {others} of key {key}, not yet {place}"
            of.holding.delivered(place, key, session, self.world.now_ns)
        if place not in of.sent:
            of.sent.add(place)
            of.check_order(place, topic, key)

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
            self.relink()  # a ledger may have followed another
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
        check(self)

    def check_delivered(self, of: Subscription) -> None:
        """V1."""
        check_delivered(self, of)

    def _progress(self) -> tuple[int, ...]:
        return (
            sum(len(acked) for acked in self.acked.values()),
            sum(len(consumer.of.got) for consumer in self.consumers),
            sum(node.core.links.linked_events for node in self.world.nodes.values()),
        )
