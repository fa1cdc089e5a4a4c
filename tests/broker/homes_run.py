"""Random runs of a group with a home and standbys from a seed, and what has to hold in the end (protocol rule 13)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from tests.broker.homes_world import GROUP, TOPICS, Federation, Member
from tests.broker.simulation import Node

T = TypeVar("T")
WEIGHTS = {
    "publish": 25, "commit": 40, "read": 15, "move": 40, "lossy_move": 4, "tick": 25, "consume": 40, "elsewhere": 4,
    "rejoin": 25, "cut": 1.2, "heal": 3, "lose_region": 0.6, "crash": 1.6, "restart": 6, "promote": 2.5, "gossip": 8,
    "push": 20, "relink": 5, "fill_disk": 0.6, "empty_disk": 3,
}  # fmt: skip


class Traffic:
    """Every method without underscore is a step."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        regions = ["berlin", "paris", "rome"][: self.random.choice([2, 3, 3])]
        self.world = Federation(regions, self.random.choice([1, 1, 2]))
        self.members = [Member(self.world, node) for node in self.world.nodes.values()]
        self.world.relink()

    def _node(self, *, up: bool = True) -> Node | None:
        return self._any([node for node in self.world.nodes.values() if node.up is up])

    def _any(self, things: list[T]) -> T | None:
        return self.random.choice(things) if things else None

    def publish(self) -> None:
        if (node := self._node()) is not None:
            self.world.publish(node, self.random.choice(TOPICS), self.random.randint(1, 5))

    def commit(self) -> None:
        if (node := self._node()) is not None:
            node.commit(self.random.randint(1, 12))

    def read(self) -> None:
        if (node := self._node()) is not None:
            node.read()

    def move(self) -> None:
        self.world.move_links()

    def lossy_move(self) -> None:
        self.world.move_links(lambda: self.random.random() < 0.2)

    def tick(self) -> None:
        self.world.tick(self.random.choice([20, 20, 100, 100, 500, 4000]))

    def consume(self) -> None:
        if (member := self._any(self.members)) is not None:
            if self.random.random() < 0.6:  # else it may acknowledge late
                member.hear()
            member.ack(self.random.randint(1, 12))

    def elsewhere(self) -> None:
        """What somebody else holds is acknowledged where the group is now, as clients do."""
        one, other = self._any(self.members), self._any(self.members)
        if one is not None and other is not None and other.standing:
            places, one.held = one.held[:5], one.held[5:]
            before, other.held = other.held, places
            other.standing = False  # nothing is promised of it
            other.ack(len(places))
            other.standing, other.held = True, before

    def rejoin(self) -> None:
        if (member := self._any(self.members)) is not None and member.node.up:
            member.ping()
            member.hear()
            if member.gone:
                member.connect()
            elif not member.standing:
                member.join()


class HomesRun(Traffic):
    """With all that goes wrong, and managers that move the home."""

    def cut(self) -> None:
        self.world.cuts.add(frozenset(self.random.sample(self.world.regions, 2)))

    def heal(self) -> None:
        if self.world.cuts:
            self.world.cuts.discard(self.random.choice(sorted(self.world.cuts, key=sorted)))

    def lose_region(self) -> None:
        for node in self.world.of(self.random.choice(self.world.regions)):
            if node.up:
                node.crash()

    def crash(self) -> None:
        if (node := self._node()) is not None:
            node.crash(self.random.choice([0, 1, 3]))

    def restart(self) -> None:
        if (node := self._node(up=False)) is not None:
            node.start()

    def promote(self) -> None:
        self.world.promote(self.random.choice(self.world.regions))

    def gossip(self) -> None:
        self.world.gossip()

    def push(self) -> None:
        if (node := self._node()) is not None:
            self.world.push(node)

    def relink(self) -> None:
        self.world.relink()

    def fill_disk(self) -> None:
        if (node := self._node()) is not None:
            node.disk.full = True

    def empty_disk(self) -> None:
        for node in self.world.nodes.values():
            node.disk.full = False


def end(run: HomesRun) -> None:
    """The faults end (one region may stay lost); then everything arrives, and no move of the home repeats any."""
    world = run.world
    run.empty_disk()
    world.cuts.clear()
    living = list(world.regions)
    if len(living) > 2 and run.random.random() < 0.4:
        living.remove(lost := _last_words(run) if run.random.random() < 0.5 else run.random.choice(living))
        for node in world.of(lost):
            if node.up:
                node.crash()
        world.cuts.clear()
        world.regions = living
    nodes = [node for region in living for node in world.of(region)]
    _start(nodes)
    world.gossip()
    if world.known[living[0]].spec.home.region not in living:
        world.promote(run.random.choice(living))
    _quiet(run, nodes)
    _check(run, nodes)
    world.repeated.clear()
    for region in living:
        if run.random.random() < 0.5:
            for node in nodes:
                node.crash()
            _start(nodes)
        world.promote(region)
        _quiet(run, nodes)
        _check(run, nodes)
        assert not world.repeated, f"what was known as settled came again in {region}: {world.repeated[:3]}"


def _last_words(run: HomesRun) -> str:
    """What the home settles last only one of the others hears, and there not everybody; returns the home."""
    world = run.world
    nodes = list(world.nodes.values())
    _start(nodes)
    _quiet(run, nodes, 30)
    home = world.known[world.regions[0]].spec.home.region
    cut_off, hears = run.random.sample([each for each in world.regions if each != home], 2)
    world.cuts.add(frozenset((home, cut_off)))
    for node in nodes:
        world.publish(node, "a", 3)
    for _ in range(4):
        for node in nodes:
            node.commit()
        world.move_links()
    if len(world.of(hears)) > 1:
        world.of(hears)[0].crash()
    _quiet(run, nodes, 10)
    return home


def _start(nodes: list[Node]) -> None:
    for node in nodes:
        if not node.up:
            node.start()


def _quiet(run: HomesRun, nodes: list[Node], rounds: int = 60) -> None:
    """Until nothing happens any more."""
    world = run.world
    for at in range(rounds):
        if at % 6 == 0:
            world.gossip()
            world.relink()
            for node in nodes:
                world.push(node)
        for node in nodes:
            node.commit()
            while node.reads:
                node.read()
        world.move_links()
        for member in run.members:
            member.ping()
            member.hear()
            if member.node.up and member.gone:
                member.connect()
            elif member.node.up and not member.standing and at % 6 == 0:
                member.join()
            member.ack(1000)
        world.tick(250)


def _check(run: HomesRun, nodes: list[Node]) -> None:
    """V1 for all that is in the home (of a lost region a standby may have more), and everything is shared."""
    world = run.world
    definition = max((world.known[node.region] for node in nodes), key=lambda record: record.spec.age)
    home = definition.spec.home.region
    stored = {body for node in nodes if node.region == home for body in _bodies(node)}
    missing = {body for body in world.due if body in stored} - world.got
    assert not missing, f"V1: {sorted(missing)[:3]} never came, {len(missing)} in all"
    for node in nodes:
        group = node.core.subscriptions.groups.get(GROUP)
        assert group is not None
        assert group.spec.home == definition.spec.home, f"{node.name} follows {group.spec.home}"
        [status] = node.core.status().groups
        shared = {region: status.shared.get(region) for region in world.regions if region != node.region}
        assert set(shared.values()) == {(0, 0)}, f"{node.name} has not shared all: {shared}"
        assert status.outstanding == 0, f"{node.name} waits for {status.outstanding}"
        behind = status.backlog and (node.region == home or len(world.regions) == len(world.known))
        assert not behind, f"{node.name} is {status.backlog} behind"


def _bodies(node: Node) -> set[bytes]:
    from tests.broker.promises import stored

    return {bytes(body) for batch, _ in stored(node) for _, _, body in batch.batch.events()}


def run_homes(seed: int, steps: int = 400) -> None:
    """Raises AssertionError if a promise is broken; the same seed makes the same run."""
    print(f"homes, seed {seed}, {steps} steps")
    run = HomesRun(seed)
    names = list(WEIGHTS)
    for name in run.random.choices(names, [WEIGHTS[each] for each in names], k=steps):
        step: Callable[[], None] = getattr(run, name)
        step()
    end(run)
