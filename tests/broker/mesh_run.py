"""Regions that pull from one another while everything goes wrong: managers plan links, receivers are replaced.

A `Region` has instances and what its manager remembers; a `Mesh` is the world of them. What is checked are promises of
rules 18 and 19: what is wanted crosses, each event once, in order per origin, topic and key; what is pinned stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from msgspec.structs import replace

from fedbus.batch import BatchBuilder
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.policies import TopicRule
from fedbus.broker.record import Kind
from fedbus.broker.stored import Stored
from fedbus.control.links import Interest, LinkPlanner, forced
from fedbus.control.summary import LedgerSummary, RegionSummary
from fedbus.position import LedgerId
from fedbus.topic import FilterSet
from tests.broker.promises import stored
from tests.broker.simulation import MILLISECOND, SMALL, Node, World, events_in

LIMITS = replace(SMALL, ledger_roll_bytes=3000, batch_bytes=400, link_window_bytes=1000)
LINK_BYTES = 1500  # a quarter of what may be unconfirmed, and a batch
TOPICS = ["a.x", "a.y", "b.x"]
FILTERS = ["a.x", "a.*", ">", "b.>"]
PINNED = "b.x"
Stream = tuple[str, str, int]


class Region:
    """``nodes``: its living instances; ``heard``: the newest summaries of others; ``assigned``: as in its store."""

    def __init__(self, world: World, name: str, instances: int) -> None:
        self.world = world
        self.name = name
        self.nodes = [world.node(name, f"{name}{at}", LIMITS) for at in range(instances)]
        self.planner = LinkPlanner()
        self.durable: set[str] = set()
        self.live: set[str] = set()  # never taken back: what they brought stays in front of what is wanted later
        self.heard: dict[str, RegionSummary] = {}
        self.assigned: dict[str, str] = {}
        self.recovering: dict[str, int] = {}  # ledgers that nobody serves, until when
        self.rules: list[TopicRule] = []
        self.version = 0

    def summary(self) -> RegionSummary:
        """What its manager tells the others."""
        ledgers: list[LedgerSummary] = []
        for node in self.nodes:
            if node.up:
                core = node.core.ledgers
                ledgers += [
                    LedgerSummary(name, core.end(name), node.endpoint, name == core.current)
                    for name in core.names()
                    if LedgerId.parse(name).region == self.name and self.recovering.get(name, 0) <= self.world.now_ns
                ]
                ledgers += [
                    LedgerSummary(name, 0, "", open=True)
                    for name in core.names()
                    if self.recovering.get(name, 0) > self.world.now_ns
                ]
            else:
                names = list(node.disk.ledgers)
                ledgers += [LedgerSummary(name, node.disk.end(name), "", name == names[-1]) for name in names]
        return RegionSummary(self.name, 1, self.world.now_ns, 0.0, 0.0, 0.0, 0.0, 0.0, [], ledgers)

    @property
    def interest(self) -> Interest:
        durable = frozenset(self.durable) | forced(self.rules, self.name)
        return Interest(durable, frozenset(self.live - durable))

    def manage(self) -> None:
        """Plan, assign, tell."""
        living = {node.name: node for node in self.nodes if node.up}
        scanned = {name: node.core.status().links for name, node in living.items()}
        members = {node.name for node in self.nodes}
        assigned = {ledger: name for ledger, name in self.assigned.items() if name in members}
        summaries = list(self.heard.values())
        plan = self.planner.plan(summaries, self.interest, assigned, scanned, sorted(living), self.world.now_ns)
        for name, links in plan.items():
            for link in links:
                self.assigned.setdefault(link.ledger, name)
                self.assigned[link.ledger] = assigned.get(link.ledger, name)
            if links != living[name].links:
                living[name].hold_links(links)

    def apply_policies(self, node: Node) -> None:
        if node.up and self.version:
            node.handle(e.ApplyTopics(self.version, self.rules, auto_create=True))

    def pass_on(self, gone: Node, heir: Node) -> None:
        """The store's transaction: whoever dispatches what it wrote receives what it received (rule 18)."""
        self.assigned = {ledger: heir.name if name == gone.name else name for ledger, name in self.assigned.items()}

    def replace(self, gone: Node, heir: Node) -> None:
        """An instance is gone for good; another serves its ledgers (a copy of all that was durable) from now on."""
        if gone.up:
            gone.crash()
        self.nodes.remove(gone)
        del self.world.nodes[gone.name]
        state = list(gone.disk.state_records())
        closed = {name: gone.disk.end(name) for name in gone.disk.ledgers}
        heir.disk.ledgers = gone.disk.ledgers | heir.disk.ledgers
        heir.handle(e.Adopt(closed, state))
        while heir.disk.queue:  # a managed instance that crashes before would read all of it again
            heir.commit()
        self.pass_on(gone, heir)


class Mesh:
    """What is published, wanted and managed, and how it flows. Every method is a step."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.world = World()
        self.regions = {name: Region(self.world, name, count) for name, count in (("a", 2), ("b", 3), ("c", 1))}
        self.sequence = 0
        self.knowing_pin: set[tuple[str, int]] = set()  # (node, incarnation) that was told that PINNED is
        for region in self.regions.values():
            for node in region.nodes:
                self._observe(node)

    def _observe(self, node: Node) -> None:
        def sent(session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> None:
            knows = (node.name, node.starts) in self.knowing_pin
            if knows and isinstance(message, p.Deliver) and frames[0] and not session.startswith(b"a"):
                topics = {topic for topic, _, _ in events_in(frames)}
                assert PINNED not in topics, f"residency: {node.name} sent what is pinned to {session!r}"

        node.observe = sent

    def any_region(self) -> Region:
        return self.random.choice(list(self.regions.values()))

    def any_node(self, *, up: bool = True) -> Node:
        nodes = list(self.world.nodes.values())
        return self.random.choice([node for node in nodes if node.up is up] or nodes)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        node, topic = self.any_node(), self.random.choice(TOPICS)
        self.sequence += 1
        builder = BatchBuilder()
        for at in range(self.random.randint(1, 5)):
            builder.add(topic, self.random.randint(1, 3), f"{self.sequence}/{at}".encode())
        batch, session = builder.build(), f"p{self.sequence}".encode()
        self.world.connect(node, session)
        node.receive(session, p.Hello(1, 1, "client", "p"))
        node.receive(session, p.Publish(1, f"p{self.sequence}", 1), bytes(batch.index_bytes), bytes(batch.payload))
        self.world.disconnect(node, session)

    def want(self) -> None:
        region, pattern = self.any_region(), self.random.choice(FILTERS)
        chosen = self.random.random()
        if chosen < 0.5:
            region.durable.add(pattern)
        elif chosen < 0.8:
            region.live.add(pattern)
        elif region.durable:
            region.durable.discard(self.random.choice(sorted(region.durable)))

    def pin(self) -> None:
        """From now on this topic is stored in one region alone; not everybody hears it at once."""
        if self.random.random() < 0.3:
            for region in self.regions.values():
                region.rules = [TopicRule(filter=PINNED, forward="pinned", regions=("a",))]
                region.version = 1

    def tell_policies(self) -> None:
        region = self.any_region()
        for node in region.nodes:
            region.apply_policies(node)
            if region.version and node.up:
                self.knowing_pin.add((node.name, node.starts))

    def hear(self) -> None:
        one, other = self.random.sample(list(self.regions.values()), 2)
        one.heard[other.name] = other.summary()

    def manage(self) -> None:
        self.any_region().manage()

    def commit(self) -> None:
        for node in self.world.nodes.values():
            events = [each for each in node.core.ledgers.pending if each.kind is Kind.EVENTS and node.up]
            size_bytes = sum(each.size_bytes for each in events if each.events_meta().origin is not None)
            assert size_bytes < LINK_BYTES, f"{node.name}: links fill {size_bytes} bytes"
        self.any_node().commit(self.random.randint(1, 8))

    def read(self) -> None:
        self.any_node().read()

    def move(self) -> None:
        self.world.move_links(lambda: self.random.random() < 0.1)

    def move_well(self) -> None:
        self.world.move_links()


class FaultyMesh(Mesh):
    """Faults too; ``settle`` ends them and checks all."""

    def wait(self) -> None:
        self.world.tick(self.random.choice([20, 20, 100, 500, 4000]))

    def crash(self) -> None:
        node = self.any_node()
        if node.up:
            node.crash(self.random.choice([0, 0, 1, 3]))

    def restart(self) -> None:
        node = self.any_node(up=False)
        if not node.up:
            node.start()
            self.regions[node.region].apply_policies(node)
            until_ns = self.world.now_ns + self.random.choice([0, 500, 5000]) * MILLISECOND
            self.regions[node.region].recovering |= dict.fromkeys(node.core.ledgers.closed, until_ns)
            if self.regions[node.region].version:
                self.knowing_pin.add((node.name, node.starts))

    def fill_disk(self) -> None:
        self.any_node().disk.full = self.random.random() < 0.4

    def replace(self) -> None:
        region = self.any_region()
        if len(region.nodes) > 1:
            gone, heir = self.random.sample(region.nodes, 2)
            if heir.up and not heir.disk.full:
                region.replace(gone, heir)

    # -- the end -------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        for node in self.world.nodes.values():
            node.disk.full = False
            if not node.up:
                node.start()
        for region in self.regions.values():
            for node in region.nodes:
                region.apply_policies(node)
        quiet, before = 0, ()
        for _ in range(1500):
            for region in self.regions.values():
                region.heard = {name: other.summary() for name, other in self.regions.items() if other is not region}
                region.manage()
            for node in self.world.nodes.values():
                node.commit()
                while node.reads:
                    node.read()
            self.world.move_links()
            self.world.tick(100)
            now = tuple(len(list(stored(node))) for node in self.world.nodes.values())
            quiet = quiet + 1 if now == before else 0
            before = now
            if quiet > 90:
                break
        for region in self.regions.values():
            check(region, self.regions.values())


def check(region: Region, regions: Iterable[Region]) -> None:
    """V9: once, in order, no loops; V6: what is wanted has come, or is pinned."""
    here: set[tuple[str, int]] = set()
    newest: dict[Stream, tuple[int, int]] = {}
    from_the_middle = FilterSet(sorted(region.live) or ["nothing"])
    for batch in _linked(region):
        origin = LedgerId.parse(batch.origin_ledger)
        assert origin.region != region.name, f"loop: {batch.origin_ledger} came back to {region.name}"
        for (topic, key, _), offset in zip(batch.batch.events(), batch.offsets, strict=True):
            place = (batch.origin_ledger, offset)
            assert place not in here, f"V9: {place} was forwarded to {region.name} twice"
            here.add(place)
            stream, at = (f"{origin.region}/{origin.instance}", topic, key), (origin.epoch, offset)
            before = newest.setdefault(stream, at)
            late = f"V9: {at} of {stream} came to {region.name} behind {before}"
            assert before <= at or from_the_middle.matches(topic), late
            newest[stream] = at
    filters = FilterSet(sorted(region.durable | forced(region.rules, region.name)) or ["nothing"])
    for other in regions:
        for batch in _born(other) if other is not region else ():
            for (topic, _, _), offset in zip(batch.batch.events(), batch.offsets, strict=True):
                pinned = topic == PINNED and region.version and region.name != "a"
                place = (batch.ledger, offset)
                if filters.matches(topic) and not pinned:
                    assert place in here, f"V6: {place} never came to {region.name}"


def _linked(region: Region) -> list[Stored]:
    return [batch for node in region.nodes for batch, _ in stored(node) if batch.origin is not None]


def _born(region: Region) -> list[Stored]:
    return [batch for node in region.nodes for batch, _ in stored(node) if batch.origin is None]


STEPS = {
    "publish": 30, "want": 4, "pin": 0.5, "tell_policies": 3, "hear": 15, "manage": 15, "commit": 30, "read": 12,
    "move": 10, "move_well": 30, "wait": 15, "crash": 2, "restart": 8, "fill_disk": 1.5, "replace": 1.0,
}  # fmt: skip


def run_mesh(seed: int, steps: int = 300) -> None:
    """Raises AssertionError if a promise is broken; the same seed makes the same run."""
    print(f"mesh, seed {seed}, {steps} steps")
    random = Random(seed)
    mesh = FaultyMesh(random)
    for region in mesh.regions.values():
        region.durable.add(random.choice(FILTERS))
    for name in random.choices(list(STEPS), list(STEPS.values()), k=steps):
        step: Callable[[], None] = getattr(mesh, name)
        step()
    mesh.settle()
