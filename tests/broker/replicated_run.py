"""A replicated region with producers, readers and faults, and the promises that must hold whatever happens.

Promises are checked as messages leave a node (V2, V3, V5, V6), and, when the faults have stopped, against what all the
disks hold (V1, V3, equal copies, V7: what a zombie acknowledged must be there like everything else).
"""

from __future__ import annotations

from collections import defaultdict
from random import Random

import msgspec

from fedbus.broker import protocol as p
from fedbus.ledger_record import LedgerRecord
from fedbus.limits import Limits
from tests.broker.clients import Place, Producer
from tests.broker.replica_node import ReplicaNode
from tests.broker.replica_reader import Reader
from tests.broker.replicated_faults import TOPICS, RegionFaults
from tests.broker.replicated_promises import check, is_quiet
from tests.broker.replicated_world import ReplicatedWorld, settings
from tests.broker.simulation import SMALL, events_in, offsets_of


class ReplicatedRun(RegionFaults):
    """Every method is a step a scenario may take; ``settle`` ends the faults and checks all."""

    def __init__(self, seed: int, count: int = 3) -> None:
        self.random = Random(seed)
        roll = self.random.choice([1500, 4000, 10**9])
        limits: Limits = msgspec.structs.replace(
            SMALL, segment_bytes=1500, ledger_roll_bytes=roll, uncommitted_bytes=self.random.choice([3000, 10**6])
        )
        self.world = ReplicatedWorld(self.random, limits, settings())
        self.world.observe = self._sent
        self.world.decided = self._decided
        self.bodies_of: dict[int, list[bytes]] = {}
        self.topic_of: dict[bytes, str] = {}
        self.acked: dict[bytes, Place] = {}
        self.truth: dict[Place, bytes] = {}
        self.confirmed: dict[str, int] = defaultdict(int)  # ledger → records that some writer has confirmed
        self.ends: dict[str, int] = defaultdict(int)
        self.got: set[bytes] = set()
        self.rotten: set[tuple[str, int]] = set()
        self.durable_acks: set[Place] = set()
        self.readers_by_session: dict[bytes, Reader] = {}
        self._numbers = 0
        self.nodes = [self.world.node(f"n{at}") for at in range(count)]
        self.calm(40)
        self.producers = [Producer(self, f"p{at}", node) for at, node in enumerate(self.nodes)]  # type: ignore[arg-type]
        self.readers = [Reader(self, node) for node in self.nodes]

    def session(self, kind: str) -> bytes:
        return f"{kind}{self.number()}".encode()

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    # -- at every message ----------------------------------------------------------------------------------------------

    def _sent(self, node: ReplicaNode, session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> None:
        if isinstance(message, p.Published):
            for n, body in enumerate(self.bodies_of.get(message.request, ())):
                place = (message.ledger, message.first_offset + n)
                assert self.truth.setdefault(place, body) == body, f"V3: {place} is {self.truth[place]!r} and {body!r}"
                self.acked[body] = place
        reader = self.readers_by_session.get(session)
        if reader is None:
            return
        if isinstance(message, p.Ok) and message.request in reader.acks:
            self.durable_acks.update(reader.acks[message.request])
        if isinstance(message, p.Deliver):
            for (topic, _, body), offset in zip(events_in(frames), offsets_of(message.ranges), strict=True):
                place = (message.ledger, offset)
                assert self.topic_of.get(body) == topic, f"V2: {body!r} was never published to {topic}"
                assert self.truth.setdefault(place, body) == body, f"V3: {place} is {self.truth[place]!r} and {body!r}"
                record = self.world.keeper.records[message.ledger]
                if record.dispatcher == node.instance:  # one that does not know yet may deliver again
                    assert place not in self.durable_acks, f"V5: {place} was acknowledged durably"

    def _decided(self, record: LedgerRecord) -> None:
        if record.end_number is not None:
            assert record.end_number >= self.confirmed[record.id], (
                f"V7: {record.id} is closed at {record.end_number}, {self.confirmed[record.id]} were acknowledged"
            )

    def watch(self) -> None:
        """V6: what is confirmed never goes back; a writer confirms nothing beyond the end of its ledger."""
        for node in self.nodes:
            ledgers = node.core.ledgers
            if not node.alive:
                continue
            if ledgers.current:
                number = ledgers.confirmed_number + 1
                record = self.world.keeper.records[ledgers.current]
                assert record.end_number is None or number <= record.end_number, (
                    f"V7: {record.id} #{number} at a zombie"
                )
                self.confirmed[ledgers.current] = max(self.confirmed[ledgers.current], number)
            for name in ledgers.names():
                record = self.world.keeper.records[name]
                if record.dispatcher == node.instance:
                    end = ledgers.end(name)
                    assert end >= self.ends[name], f"V6: {name} went back from {self.ends[name]} to {end}"
                    self.ends[name] = end

    # -- steps ---------------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        producer = self.random.choice(self.producers)
        if len(producer.waiting) < 6:
            keys = [self.random.randrange(4) for _ in range(self.random.randint(1, 6))]
            producer.publish(self.random.choice(TOPICS), keys)

    def send_again(self) -> None:
        producer = self.random.choice(self.producers)
        up = [node for node in self.nodes if node.up]
        if not up:
            return
        producer.send_again(
            producer.node if producer.node.up and self.random.random() < 0.7 else self.random.choice(up)
        )

    def hear(self) -> None:
        for client in (*self.producers, *self.readers):
            client.hear()
        for reader in self.readers:
            if reader.gone() and reader.node.up:
                reader.connect()

    def step(self) -> None:
        """A moment passes: some of what is under way happens."""
        for node in self.nodes:
            node.commit(self.random.randint(1, 8))
            for _ in range(self.random.randint(0, 4)):
                node.read()
        self.world.move(self.random.randint(1, 8))
        self.world.keeper.deliver()
        self.world.tick(self.random.choice([5, 20, 20, 50, 120]))
        self.watch()

    def look(self) -> None:
        self.world.keeper.look()

    def calm(self, rounds: int) -> None:
        """Time passes and nothing goes wrong."""
        for _ in range(rounds):
            self.world.keeper.look()
            self.world.keeper.deliver()
            for node in self.nodes:
                node.commit()
                for _ in range(8):
                    node.read()
            self.world.move()
            self.world.tick(50)
            self.watch()

    # -- the end -------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """The faults end; everything acknowledged must be there, equal, twice, and delivered."""
        self._end_faults()
        for turn in range(400):
            self.calm(1)
            self.hear()
            for producer in self.producers:
                if producer.waiting and turn % 4 == 0:
                    producer.send_again()
            for node in self.nodes:
                if not node.up:
                    node.start()
            if turn % 20 == 0:
                self.scrub()
                for reader in self.readers:
                    if not reader.gone():
                        reader.node.receive(reader.session, p.Ping())
            if turn > 60 and is_quiet(self):
                break
        self.calm(20)
        self.hear()
        check(self)

    def _end_faults(self) -> None:
        self.heal()
        for node in self.nodes:
            node.disk.full = False
            if node.frozen:
                node.thaw()
            if node.up and node.disk.failed:
                node.crash()
            if not node.up:
                node.start()


WEIGHTS = {
    "publish": 30, "step": 60, "hear": 25, "look": 12, "send_again": 6, "crash": 1.5, "restart": 5, "freeze": 1.5,
    "thaw": 2, "wait_long": 1.5, "cut": 1.5, "heal": 4, "lose_messages": 1, "fill_disk": 1.5, "break_disk": 0.3,
    "lose_disk": 0.7, "damage": 0.7, "scrub": 1, "zombie_meets_a_restarted_member": 1.5,
}  # fmt: skip


def run_replicated(seed: int, steps: int = 300) -> ReplicatedRun:
    """Raises AssertionError if a promise is broken; the same seed makes the same run."""
    run = ReplicatedRun(seed)
    for name in run.random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=steps):
        getattr(run, name)()
    run.settle()
    return run
