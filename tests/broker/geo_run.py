"""Three regions with topics that count only once a second region has them (rule 20), under every fault of links."""

from __future__ import annotations

from collections import defaultdict
from random import Random

import msgspec

from fedbus.batch import Batch, BatchBuilder
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.policies import TopicRule
from fedbus.broker.record import Kind, Record
from tests.broker.clients import Producer
from tests.broker.history import ROLLING, Run
from tests.broker.simulation import Node
from tests.broker.test_simulation import HOW, Links

LIMITS = msgspec.structs.replace(ROLLING, geo_events=16)
REGIONS = ("here", "near", "far")
TOPICS = ["a.x", "s.any", "s.far"]
RULES = [
    TopicRule(filter="s.>", durability="federation"),
    TopicRule(filter="s.far", durability="federation", regions=("far", "here")),
]
TARGETS = {"s.any": {*REGIONS}, "s.far": {"far", "here"}}
FILTERS = [[">"], ["s.>"], ["s.far", "a.x"], ["a.x"], ["s.any"]]


class GeoProducer(Producer):
    """Its batches hold several topics."""

    def publish_mixed(self, topics: list[str], keys: list[int]) -> None:
        self.sequence += 1
        builder, bodies = BatchBuilder(), []
        for n, (topic, key) in enumerate(zip(topics, keys, strict=True)):
            bodies.append(f"{self.name}/{self.sequence}/{n}/{key}".encode())
            builder.add(topic, key, bodies[-1])
            self.run.topic_of[bodies[-1]] = topic
        batch = builder.build()
        request = p.Publish(self.run.number(), self.name, self.sequence)
        self.waiting[self.sequence] = (request, (bytes(batch.index_bytes), bytes(batch.payload)), bodies)
        if not self.paused:
            self._send(self.sequence)


class GeoRun(Run):
    """Knows at every message which regions have an event on disk."""

    def __init__(self) -> None:
        super().__init__()
        self.durable: dict[bytes, set[str]] = defaultdict(set)  # body → regions

    def node(self, region: str, name: str) -> Node:
        node = self.world.node(region, name, LIMITS)
        node.observe = lambda session, message, frames: self._sent(node, session, message, frames)
        keep = node.disk.keep

        def kept(writes: list[e.Write]) -> None:
            keep(writes)
            for write in writes:
                for body in _bodies(write.record):
                    self.durable[body].add(region)

        node.disk.keep = kept  # type: ignore[method-assign]
        node.topics = e.ApplyTopics(1, RULES)
        node.handle(node.topics)
        return node

    def producer(self, node: Node) -> Producer:
        self.producers.append(GeoProducer(self, f"p{len(self.producers)}", node))
        return self.producers[-1]

    def _sent(self, node: Node, session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> None:
        if isinstance(message, p.Published):
            self._counts(node, self.bodies_of[message.request], "acknowledged")
        elif isinstance(message, p.Deliver) and session in self.consumers_by_session and frames[0]:
            if message.ledger.startswith(f"{node.region}/"):
                batch = Batch.decode(frames[0], frames[1])
                self._counts(node, [bytes(body) for _, _, body in batch.events()], "dispatched")
        elif isinstance(message, p.Refused) and message.code == "unavailable":
            writes = (c for c in node.disk.queue if isinstance(c, e.Write) and c.generation == node.disk.generation)
            written = {body for write in writes for body in _bodies(write.record)}
            for body in self.bodies_of.get(message.request, ()):
                assert node.region not in self.durable[body], f"{body!r} was refused and is stored"
                assert body not in written, f"{body!r} was refused and is being stored"
        super()._sent(node, session, message, frames)

    def _counts(self, node: Node, bodies: list[bytes], how: str) -> None:
        for body in bodies:
            targets = TARGETS.get(self.topic_of[body])
            if targets is not None:
                have = self.durable[body]
                assert node.region in have, f"{body!r} was {how} before {node.region} has it"
                assert (have & targets) - {node.region}, f"{body!r} was {how}, and only {have} have it"

    def settle(self) -> None:
        """The faults end, and every region pulls everything of every other."""
        nodes = list(self.world.nodes.values())
        for receiver in nodes:
            for origin in nodes:
                if origin is not receiver:
                    self.link(receiver, origin, [">"])
        super().settle()
        for node in nodes:
            assert not node.core.ledgers.geo, f"{node.name} withholds for ever"
            assert not node.core.intake.geo._waiting, f"{node.name} owes answers"


class GeoRegions(Links):
    """Producers at the first two of three regions; what the others pull changes all the time."""

    regions = REGIONS

    def begin(self) -> None:
        self.run = GeoRun()
        self.nodes = [self.run.node(region, f"n{at}") for at, region in enumerate(self.regions)]
        for node in (self.nodes[0], *self.nodes[:2]):
            self.run.producer(node)
        self.run.link(self.nodes[1], self.nodes[0], [">"])
        self.run.link(self.nodes[2], self.nodes[0], ["s.far"])
        self.run.link(self.nodes[0], self.nodes[1], ["s.>"])

    def publish_mixed(self, at: int, topics: list[str], keys: list[int]) -> None:
        producer = self.of(self.run.producers, at)
        assert isinstance(producer, GeoProducer)
        if len(producer.waiting) < 6:
            producer.publish_mixed(topics, keys)

    def want_from(self, receiver: int, origin: int, filters: int) -> None:
        """A region's interest in another one changes."""
        nodes = self.nodes
        one, other = nodes[receiver % len(nodes)], nodes[origin % len(nodes)]
        if one is not other:
            self.run.link(one, other, FILTERS[filters % len(FILTERS)])

    def reroute(self, at: int, to: int) -> None:
        """Producers stay: an instance of another region knows nothing of their tries."""


def _bodies(record: Record) -> list[bytes]:
    if record.kind is not Kind.EVENTS:
        return []
    return [bytes(body) for _, _, body in Batch.decode(record.index, record.payload).events()]


WEIGHTS = {
    "publish": 15, "publish_mixed": 15, "hear": 20, "consume": 25, "commit": 35, "read": 10, "wait": 12,
    "subscribe": 5, "send_again": 6, "come_back": 5, "restart": 8, "leave": 3, "crash": 2, "fill_disk": 4,
    "want_from": 2, "manager_looks": 6, "move_links": 12, "move_links_well": 40,
}  # fmt: skip


def run_geo(seed: int, steps: int = 300) -> None:
    """Raises AssertionError if a promise is broken; the same seed makes the same run."""
    print(f"geo, seed {seed}, {steps} steps")
    random = Random(seed)
    machine = GeoRegions()
    machine.begin()
    for name in random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=steps):
        getattr(machine, name)(**_arguments(name, random))
        machine.ends_never_go_back()
    machine.teardown()


def _arguments(name: str, random: Random) -> dict[str, object]:
    at = random.randrange(1000)
    count = random.randint(1, 5)
    keys = [random.randrange(4) for _ in range(count)]
    made: dict[str, dict[str, object]] = {
        "publish": {"at": at, "topic": random.choice(TOPICS), "keys": keys},
        "publish_mixed": {"at": at, "topics": [random.choice(TOPICS) for _ in keys], "keys": keys},
        "subscribe": {
            "at": at, "group": random.choice(["", "g", "g", "h"]), "filters": random.randrange(4),
            "start": random.choice(["earliest", "earliest", "latest"]), "credit": random.randint(1, 40),
        },
        "consume": {"at": at, "how": random.choice(HOW)},
        "leave": {"at": at, "politely": random.random() < 0.5},
        "commit": {"at": at, "most": random.randint(1, 8)},
        "wait": {"milliseconds": random.choice([20, 20, 20, 100, 200, 500, 500, 4000, 11_000])},
        "crash": {"at": at, "survivors": random.choice([0, 0, 1, 2, 5])},
        "fill_disk": {"at": at, "full": random.random() < 0.4},
        "want_from": {"receiver": random.randrange(3), "origin": random.randrange(3), "filters": at},
        "move_links": {"losses": [random.random() < 0.15 for _ in range(12)]},
        "manager_looks": {},
        "move_links_well": {},
        "hear": {"at": at},
    }  # fmt: skip
    return made.get(name, {"at": at})
