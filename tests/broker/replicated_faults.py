"""What can go wrong in a replicated region; every method is a step that a scenario may take."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fedbus.broker import copy_effects as c
from fedbus.ledger_record import LedgerRecord
from tests.broker.clients import Producer
from tests.broker.replica_keeper import MANAGER
from tests.broker.replica_node import ReplicaNode
from tests.broker.replicated_world import ReplicatedWorld, all_members

TOPICS = ["a.x", "a.y", "b.x"]


class RegionFaults:
    """Faults, chosen by ``random``; none of them takes the last copy of what was acknowledged."""

    random: Random
    world: ReplicatedWorld
    nodes: list[ReplicaNode]
    producers: list[Producer]
    confirmed: dict[str, int]
    rotten: set[tuple[str, int]]
    step: Callable[[], None]

    def crash(self) -> None:
        node = self.random.choice(self.nodes)
        if node.up:
            node.crash(self.random.choice([0, 0, 1, 3, 10]))

    def restart(self) -> None:
        for node in self.nodes:
            if not node.up:
                node.start()
                return

    def freeze(self) -> None:
        node = self.random.choice(self.nodes)
        if node.up and sum(each.frozen for each in self.nodes) < 2:
            node.frozen = True

    def thaw(self) -> None:
        node = self.random.choice(self.nodes)
        if node.frozen:
            node.thaw()

    def wait_long(self) -> None:
        """Long enough for whoever is silent to be given up."""
        for _ in range(12):
            self.world.tick(250)
            self.world.keeper.look()
            self.world.keeper.deliver()
            self.step()

    def zombie_meets_a_restarted_member(self) -> None:
        """A writer that was stopped when its ledger was taken goes on, while a member has just come back."""
        zombies = [node for node in self.nodes if node.frozen and node.core.ledgers.current]
        taken = [node for node in zombies if self.world.keeper.records[node.core.ledgers.current].state != "OPEN"]
        if not taken:
            return
        zombie = taken[0]
        # What the manager has told it meanwhile comes too late.
        zombie.stalled = [event for event in zombie.stalled if not isinstance(event, c.ApplyLedgers)]
        for node in self.nodes:
            if node is not zombie and node.up:
                node.crash()
                node.start()
        zombie.thaw()
        for producer in self.producers:
            if producer.node is zombie:
                producer.publish(TOPICS[0], [1])
        for _ in range(8):
            for node in self.nodes:
                node.commit()
            self.world.move()
            self.world.tick(60)

    def cut(self) -> None:
        names = [*self.world.nodes, MANAGER]
        source, target = self.random.sample(names, 2)
        self.world.cuts.add((source, target))
        if self.random.random() < 0.5:
            self.world.cuts.add((target, source))

    def heal(self) -> None:
        self.world.cuts.clear()
        self.world.lossy = 0.0

    def lose_messages(self) -> None:
        self.world.lossy = 0.2

    def fill_disk(self) -> None:
        self.random.choice(self.nodes).disk.full = self.random.random() < 0.4

    def break_disk(self) -> None:
        node = self.random.choice(self.nodes)
        if node.up:
            node.disk.failed = True

    def lose_disk(self) -> None:
        """A machine is gone with its disk: only where nothing acknowledged would be gone with it (R = 2)."""
        node = self.random.choice(self.nodes)
        if all(survives(self, record, node) for record in self.world.keeper.records.values()):
            node.lose_disk()
            self.world.keeper.forget(node)  # what it asked for may give its directory, alone, what comes next

    def damage(self) -> None:
        """A record of one copy rots, if another copy has it."""
        node = self.random.choice(self.nodes)
        found = [(ledger, number) for ledger, records in node.disk.ledgers.items() for number in records]
        if not found:
            return
        ledger, number = self.random.choice(found)
        record = self.world.keeper.records.get(ledger)
        others = [n for n in self.nodes if n is not node and record is not None and n.member in record.members]
        seldom = number < self.confirmed[ledger] and (ledger, number) not in self.rotten
        if seldom and any(is_sound(n, ledger, number) for n in others):
            self.rotten.add((ledger, number))
            node.disk.damaged.add((ledger, number))

    def scrub(self) -> None:
        for node in self.nodes:
            for ledger in [name for name, _ in node.disk.damaged]:
                if node.up and ledger in node.disk.ledgers:
                    node.handle(node.disk.scrub(ledger))


def survives(run: RegionFaults, record: LedgerRecord, without: ReplicaNode) -> bool:
    if record.state == "EXPIRED" or without.name not in all_members(record):
        return True
    end = record.end_number if record.end_number is not None else run.confirmed[record.id]
    others = [n for n in run.nodes if n is not without and n.member in record.members]
    tails = [n for n in others if n.member in record.last.members]
    start = 0 if record.state == "CLOSED" else record.last.first_number
    return bool(tails) and all(
        any(is_sound(n, record.id, number) for n in others)
        and (number < start or all(is_sound(n, record.id, number) for n in tails))
        for number in range(end)
    )


def is_sound(node: ReplicaNode, ledger: str, number: int) -> bool:
    return number in node.disk.ledgers.get(ledger, {}) and (ledger, number) not in node.disk.damaged
