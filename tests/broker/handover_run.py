"""A region whose key slots move while instances crash and consumers come and go: order per key across owners (V4).

Nobody is ever waited for in vain here (``key_handover_max_ms`` is endless and everybody comes back), so no order may
break: first deliveries of a key follow its publishing order, and nobody gets one while somebody else, at whatever
instance, still holds an earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from fedbus.batch import BatchBuilder
from fedbus.broker import protocol as p
from tests.broker.handover_consumers import HandoverConsumers
from tests.broker.moving_region import KEYS, MovingRegion
from tests.broker.simulation import Node, events_in, offsets_of

WEIGHTS = {
    "publish": 40, "commit": 25, "read": 10, "wait": 15, "consume": 35, "leave": 3, "join": 8, "table": 3,
    "hand_out": 12, "move": 25, "crash": 1.5, "restart": 6,
}  # fmt: skip


@dataclass
class Stream:
    """One key's producer: one batch at a time, sent to whoever owns the key until it is answered."""

    key: int
    sequence: int = 0
    answered: bool = True
    requests: set[int] = field(default_factory=set)


class HandoverRun:
    """``step`` does something at random; ``settle`` ends the faults and checks that all has come."""

    def __init__(self, seed: int) -> None:
        self.region = region = MovingRegion(Random(seed))
        self.consumers = consumers = HandoverConsumers(region)
        self.streams = [Stream(key) for key in KEYS]
        self.newest: dict[int, int] = {}  # per key the newest sequence that was delivered
        self.delivered: set[bytes] = set()
        self.steps = {
            "publish": self.publish, "commit": region.commit, "read": region.read, "wait": region.wait,
            "consume": consumers.consume, "leave": consumers.leave, "join": consumers.join, "table": region.table,
            "hand_out": region.hand_out, "move": region.move, "crash": region.crash, "restart": region.restart,
        }  # fmt: skip
        for node in region.nodes:
            node.observe = lambda session, message, frames, node=node: self._sent(node, session, message, frames)
            consumers.add(node)
        region.table()
        for node in region.nodes:
            region.hand_out(node)

    def step(self) -> None:
        name = self.region.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.steps[name]()

    def publish(self) -> None:
        """The next event of a key, or the present one again."""
        at = self.region.random.randrange(len(self.streams))
        stream, node = self.streams[at], self.region.owners[at]
        if stream.answered:
            stream.sequence += 1
            stream.answered = False
            stream.requests.clear()
        builder = BatchBuilder()
        builder.add("t", stream.key, f"{stream.key}/{stream.sequence}".encode())
        batch = builder.build()
        session = f"producer{at}".encode()
        request = self.region.number()
        stream.requests.add(request)
        if node.up:
            inbox = self.region.world.connect(node, session)
            node.receive(session, p.Hello(1, 1, "client", "producer"))
            publish = p.Publish(request, f"p{at}", stream.sequence, len(self.region.tables))
            node.receive(session, publish, bytes(batch.index_bytes), bytes(batch.payload))
            inbox.clear()

    # -- what must hold ------------------------------------------------------------------------------------------------

    def _sent(self, node: Node, session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> None:
        if isinstance(message, p.Published):
            for stream in self.streams:
                stream.answered = stream.answered or message.request in stream.requests
        if isinstance(message, p.Deliver) and message.subscription and session.startswith(b"c"):
            for (_, key, body), offset in zip(events_in(frames), offsets_of(message.ranges), strict=True):
                self._delivered(session, (message.ledger, offset), key, body, first=message.delivery == 1)

    def _delivered(self, session: bytes, place: tuple[str, int], key: int, body: bytes, *, first: bool) -> None:
        now_ns = self.region.world.now_ns
        if body not in self.delivered:
            self.delivered.add(body)
            sequence = int(body.rpartition(b"/")[2])
            newest = self.newest.get(key, 0)
            assert newest < sequence, f"V4: {body!r} after {newest}"
            self.newest[key] = sequence
            alive = {each.id for node in self.region.nodes if node.up for each in node.core.sessions}
            connected = {each for _, each in self.region.world.connections}
            others = [
                at for other, at in self.consumers.holding.others(key, session, now_ns) if other in alive & connected
            ]
            assert not others, f"rule 11: {others} of {key} are held elsewhere, not yet {body!r} at {place}"
        if first:
            self.consumers.holding.delivered(place, key, session, now_ns)
        else:  # given back in between: nobody waits for it any more
            self.consumers.holding.settled(session, [place])

    def settle(self) -> None:
        for node in self.region.nodes:
            if not node.up:
                node.start()
        for _ in range(400):
            for node in self.region.nodes:
                self._serve(node)
            for stream in self.streams:
                if not stream.answered:
                    self.publish()
            self.region.world.move_links()
            for _ in range(20):
                self.consumers.consume("ack")
            for consumer in self.consumers.present:
                consumer.node.receive(consumer.session, p.Ping())
            self.region.world.tick(100)
            if self._done():
                break
        assert self._done(), f"{self.newest} of {[(s.key, s.sequence, s.answered) for s in self.streams]}"
        for node in self.region.nodes:
            for group in node.core.subscriptions.groups:
                assert not group.order_breaks
                assert not group.deliveries.queued.barred_slots()

    def _serve(self, node: Node) -> None:
        """It has the newest table, a consumer, and a disk that works."""
        self.region.hand_out(node)
        if not any(consumer.node is node and self.consumers.there(consumer) for consumer in self.consumers.present):
            self.consumers.add(node)
        node.commit()
        for _ in range(len(node.reads)):
            node.read()

    def _done(self) -> bool:
        return all(stream.answered and self.newest.get(stream.key, 0) >= stream.sequence for stream in self.streams)


def run_handover(seed: int, steps: int = 400) -> None:
    """Raises AssertionError if order breaks; the same seed makes the same run."""
    print(f"hand-over, seed {seed}, {steps} steps")
    run = HandoverRun(seed)
    for _ in range(steps):
        run.step()
    run.settle()
