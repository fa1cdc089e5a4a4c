"""Members of one group in a region whose key slots move: they come, settle what they hold in every way, and go."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from fedbus.broker import protocol as p
from tests.broker.holding import Holding
from tests.broker.moving_region import MovingRegion
from tests.broker.simulation import Node, offsets_of

DEADLINE_MS = 400
HOW = ["ack", "ack", "ack", "nack", "forget", "extend"]


@dataclass
class Consumer:
    node: Node
    session: bytes
    inbox: deque[tuple[p.Message, tuple[bytes, ...]]]
    start: int
    held: list[p.Deliver] = field(default_factory=list)


class HandoverConsumers:
    """Those that are ``present``; ``holding``: what they were sent and have not settled."""

    def __init__(self, region: MovingRegion) -> None:
        self.present: list[Consumer] = []
        self.holding = Holding(DEADLINE_MS)
        self._region = region
        self._world = region.world
        self._random = region.random

    def join(self) -> None:
        node = self._region.any_node()
        if node.up and sum(self.there(consumer) and consumer.node is node for consumer in self.present) < 3:
            self.add(node)

    def add(self, node: Node) -> None:
        session = f"c{self._region.number()}".encode()
        consumer = Consumer(node, session, self._world.connect(node, session), node.starts)
        self.present.append(consumer)
        node.receive(session, p.Hello(1, 1, "client", "consumer"))
        options = p.GroupOptions(ack_deadline_ms=DEADLINE_MS, backoff_min_ms=50)
        credit = self._random.choice([3, 1000])
        node.receive(session, p.Subscribe(self._region.number(), 1, [">"], p.EARLIEST, credit, "g", options=options))

    def there(self, consumer: Consumer) -> bool:
        node = consumer.node
        return node.up and consumer.start == node.starts and (node.name, consumer.session) in self._world.connections

    def leave(self) -> None:
        there = [consumer for consumer in self.present if self.there(consumer)]
        if there:
            consumer = self._random.choice(there)
            self.present.remove(consumer)
            self.holding.gone(consumer.session)
            if self._random.random() < 0.5:
                consumer.node.receive(consumer.session, p.Goodbye())
            self._world.disconnect(consumer.node, consumer.session)

    def consume(self, how: str = "") -> None:
        """Each hears, and one settles something."""
        for consumer in list(self.present):
            if not self.there(consumer):
                self.present.remove(consumer)
                self.holding.gone(consumer.session)
            while consumer.inbox:
                message, _ = consumer.inbox.popleft()
                if isinstance(message, p.Deliver):
                    consumer.held.append(message)
        holders = [consumer for consumer in self.present if consumer.held]
        if holders:
            consumer = self._random.choice(holders)
            deliver = consumer.held.pop(self._random.randrange(len(consumer.held)))
            self._settle(consumer, deliver, how or self._random.choice(HOW))

    def _settle(self, consumer: Consumer, deliver: p.Deliver, how: str) -> None:
        settled = [p.Settled(deliver.ledger, deliver.ranges)]
        places = [(deliver.ledger, offset) for offset in offsets_of(deliver.ranges)]
        if how == "ack":
            self.holding.settled(consumer.session, places)
            consumer.node.receive(consumer.session, p.Ack(1, settled))
        elif how == "nack":
            self.holding.given_back(consumer.session, places)
            consumer.node.receive(consumer.session, p.Nack(1, settled))
        elif how == "extend":
            self.holding.extended(places, self._world.now_ns)
            consumer.held.append(deliver)
            consumer.node.receive(consumer.session, p.Extend(1, settled))
        if how != "extend":
            consumer.node.receive(consumer.session, p.Credit(1, len(places)))
