"""Regions that peer over a simulated network: loss, delay, doubles, other order, cuts (also one-way), restarts.

All from one seed. The rules that must hold at any moment are checked while it runs; what must hold in the end is
checked by :meth:`World.check_settled`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from typing import Any

from fedbus.broker.group_spec import GroupHome, GroupRecord, GroupSpec
from fedbus.broker.protocol import Start
from fedbus.control import peering_effects as e
from fedbus.control.group_definitions import digest, merge
from fedbus.control.peer import PeeringSettings
from fedbus.control.peering import PeeringCore
from fedbus.control.summary import RegionAddress, RegionSummary

MS = 1_000_000
S = 1000 * MS
SETTINGS = PeeringSettings()


class Broken(AssertionError):  # noqa: N818 - the name of what happened
    """A rule was broken."""


class Groups:
    """The definitions of one region."""

    def __init__(self) -> None:
        self.known: dict[str, GroupRecord] = {}

    def records(self) -> list[GroupRecord]:
        return list(self.known.values())

    def digest(self) -> str:
        return digest(self.records())

    def hear(self, records: list[GroupRecord]) -> None:
        for record in records:
            known = self.known.get(record.spec.name)
            self.known[record.spec.name] = record if known is None else merge(known, record)


class Region:
    """One region through all its managers. ``store`` outlives them; ``load`` grows, so that older words are seen."""

    def __init__(self, world: World, name: str, seeds: list[RegionAddress]) -> None:
        self.world, self.name, self.seeds = world, name, seeds
        self.key = f"key of {name}"
        self.store: dict[str, RegionAddress] = {}
        self.groups = Groups()
        self.generation = 0
        self.load = 0
        self.clock_ns = world.random.randrange(10**6) * S
        self.core: PeeringCore | None = None
        self.admitted: dict[str, str] = {}
        self.connected: set[str] = set()
        self.performed: Counter[tuple[str, int, int]] = Counter()
        self.answers: dict[int, list[e.Answered]] = {}
        self.seen: dict[str, tuple[int, float]] = {}
        self.lost: list[str] = []

    @property
    def address(self) -> RegionAddress:
        return RegionAddress(self.name, f"tcp://{self.name}:1", self.key)

    @property
    def now_ns(self) -> int:
        return self.world.now_ns + self.clock_ns

    @property
    def running(self) -> PeeringCore:
        assert self.core is not None
        return self.core

    def start(self) -> None:
        self.generation += 1
        known = [*self.store.values(), *self.seeds]
        self.connected.clear()
        self.seen.clear()
        self.answers.clear()
        self.core = PeeringCore(self.address, known, self.generation, self.now_ns, self.groups, SETTINGS)
        self.carry_out(self.core.begin(self.now_ns))
        self.world.later(self.world.random.randrange(SETTINGS.interval_ns), self.tick, self.generation)

    def stop(self) -> None:
        self.core = None

    def tick(self, generation: int) -> None:
        if self.core is None or generation != self.generation:
            return
        self.load += 1
        summary = RegionSummary(self.name, 0, self.now_ns, 0.0, 0.0, self.load, 0.0, 0.0, [], [])
        self.handle(e.Tick(summary))
        self.world.later(SETTINGS.interval_ns, self.tick, generation)

    def handle(self, event: e.Input) -> None:
        if self.core is not None:
            self.carry_out(self.core.handle(event, self.now_ns))
            self.check()

    def check(self) -> None:
        """What another region says never goes back for any manager here, not even across managers there."""
        for name, peer in self.running.peers.items():
            if peer.summary is not None:
                word = peer.summary.generation, peer.summary.load_eps
                if word < self.seen.get(name, word):
                    raise Broken(f"{self.name} went back from {self.seen[name]} to {word} of {name}")
                self.seen[name] = word

    def carry_out(self, effects: list[e.Effect]) -> None:
        for effect in effects:
            match effect:
                case e.Send(region, data):
                    self.world.send(self, region, data)
                case e.Connect(region, endpoint, key):
                    other = self.world.regions.get(region)
                    self.connected.discard(region)
                    if other is not None and (endpoint, key) == (other.address.endpoint, other.key):
                        self.connected.add(region)
                case e.Disconnect(region):
                    self.connected.discard(region)
                case e.Admit(keys):
                    self.admitted = keys
                case e.KeepMember(address):
                    self.store[address.region] = address
                case e.GroupsHeard(_, records):
                    self.groups.hear(records)
                case e.Perform(region, generation, call, method, _):
                    self.performed[region, generation, call] += 1
                    if self.performed[region, generation, call] > 1:
                        raise Broken(f"{self.name} did {method} of {region} twice")
                    delay_ns = self.world.random.randrange(300) * MS
                    self.world.later(delay_ns, self.handle, e.Performed(region, generation, call, [method, self.name]))
                case e.Answered(call):
                    self.answers.setdefault(call, []).append(effect)
                case e.PeerLost(region):
                    self.lost.append(region)

    def publish(self, name: str, **changes: Any) -> None:
        """Make a group, or change it."""
        known = self.groups.known.get(name)
        version = known.spec.version + 1 if known is not None else 1
        home = GroupHome(self.name, (), 1)
        spec = GroupSpec(name, ["orders.>"], Start("earliest"), created_ns=1, version=version, home=home)
        record = GroupRecord(spec, **changes)
        self.groups.known[name] = record
        self.handle(e.PublishGroups([record]))

    def ask(self, region: str) -> int:
        """Ask another region; the call's number."""
        call = next(self.world.numbers)
        self.answers.setdefault(call, [])
        self.handle(e.Call(call, region, "read", [], 3 * S))
        return call


class World:
    """Time, network and regions. ``cut``: pairs (from, to) between which nothing arrives."""

    def __init__(self, seed: int, names: list[str], *, loss: float = 0.0, doubles: float = 0.0, delay_ms: int = 20):
        self.random = random.Random(seed)
        self.loss, self.doubles, self.delay_ms = loss, doubles, delay_ms
        self.now_ns = 0
        self.numbers = itertools.count(1)
        self.cut: set[tuple[str, str]] = set()
        self.slow_ms: dict[tuple[str, str], int] = {}
        self._queue: list[tuple[int, int, Any, tuple[Any, ...]]] = []
        self._order = itertools.count()
        self.regions: dict[str, Region] = {}
        addresses = [RegionAddress(name, f"tcp://{name}:1", f"key of {name}", 0) for name in names]
        for name in names:
            self.regions[name] = Region(self, name, [each for each in addresses if each.region != name])
        for region in self.regions.values():
            region.start()

    def __getitem__(self, name: str) -> Region:
        return self.regions[name]

    def later(self, delay_ns: int, work: Any, *arguments: Any) -> None:
        heapq.heappush(self._queue, (self.now_ns + delay_ns, next(self._order), work, arguments))

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + round(seconds * S)
        while self._queue and self._queue[0][0] <= end_ns:
            self.now_ns, _, work, arguments = heapq.heappop(self._queue)
            work(*arguments)
        self.now_ns = end_ns

    def send(self, sender: Region, receiver: str, data: bytes) -> None:
        if receiver not in sender.connected or self.random.random() < self.loss:
            return
        way = sender.name, receiver
        for _ in range(1 + (self.random.random() < self.doubles)):
            delay_ms = self.slow_ms.get(way, 0) + self.random.randrange(1, self.delay_ms + 1)
            self.later(delay_ms * MS, self.deliver, sender, way, data)

    def deliver(self, sender: Region, way: tuple[str, str], data: bytes) -> None:
        receiver = self.regions[way[1]]
        if way not in self.cut and receiver.core is not None and sender.key in receiver.admitted:
            receiver.handle(e.Received(receiver.admitted[sender.key], data))

    def cut_off(self, one: str, other: str, *, both: bool = True) -> None:
        """Nothing arrives from ``one`` at ``other`` (and back); some connections do not survive it."""
        self.cut |= {(one, other), (other, one)} if both else {(one, other)}
        for near, far in ((one, other), (other, one)):
            if self.random.random() < 0.5:
                self[near].connected.discard(far)

    def heal(self) -> None:
        """All of the network works, and promptly."""
        self.cut.clear()
        self.slow_ms.clear()
        self.loss = self.doubles = 0.0

    def join(self, name: str, *, seed: str, told: str) -> Region:
        """A region that knows one member, and whom one member is told of."""
        seeds = [RegionAddress(seed, f"tcp://{seed}:1", f"key of {seed}", 0)]
        region = self.regions[name] = Region(self, name, seeds)
        address = region.address
        self[told].handle(e.AddRegion(name, address.endpoint, address.public_key))
        region.start()
        return region

    def check_settled(self) -> None:
        """In the end all members know the same, nobody is lost, and every call has ended once."""
        living = [region for region in self.regions.values() if region.core is not None]
        members = [region for region in living if not region.running.members.own.left]
        told = [region.running.members.told() for region in members]
        if any(each != told[0] for each in told):
            raise Broken(f"members differ: {told}")
        names = {region.name for region in members}
        for region in members:
            present = {name for name, peer in region.running.peers.items() if peer.present}
            if present != names - {region.name}:
                raise Broken(f"{region.name} has {sorted(present)} as peers, not the others of {sorted(names)}")
            for name in present:
                word, newest = region.running.peers[name].summary, self[name]
                if word is None or word.generation != newest.generation or word.load_eps < newest.load - 3:
                    raise Broken(f"{region.name} has an old word of {name}")
        if len({region.groups.digest() for region in members}) > 1:
            raise Broken("definitions of groups differ")
        for region in living:
            for call, answers in region.answers.items():
                if len(answers) != 1:
                    raise Broken(f"call {call} of {region.name} ended {len(answers)} times")


def turmoil(seed: int) -> World:
    """Half a minute of everything that can happen, then peace; checked."""
    world = World(seed, ["a", "b", "c"], loss=0.1, doubles=0.1, delay_ms=400)
    print(f"seed {seed}")
    happenings = [happen for happen in _HAPPENINGS for _ in range(3)]
    for happen in world.random.choices(happenings, k=25):
        world.run(world.random.uniform(0.2, 2.0))
        happen(world)
    world.heal()
    for region in world.regions.values():
        if region.core is None:
            region.start()
    world.run(15)
    world.check_settled()
    return world


def _pick(world: World, count: int) -> list[Region]:
    return world.random.sample(list(world.regions.values()), count)


def _cut(world: World) -> None:
    one, other = _pick(world, 2)
    world.cut_off(one.name, other.name, both=world.random.random() < 0.5)


def _mend(world: World) -> None:
    world.cut.clear()
    world.slow_ms.clear()


def _slow(world: World) -> None:
    one, other = _pick(world, 2)
    world.slow_ms[one.name, other.name] = 2500


def _restart(world: World) -> None:
    (region,) = _pick(world, 1)
    region.stop()
    if world.random.random() < 0.8:
        region.start()


def _publish(world: World) -> None:
    (region,) = _pick(world, 1)
    if region.core is not None:
        region.publish(f"group {world.random.randrange(3)}", deleted=world.random.random() < 0.2)


def _ask(world: World) -> None:
    one, other = _pick(world, 2)
    if one.core is not None:
        one.ask(other.name)


def _grow(world: World) -> None:
    if "d" not in world.regions and all(region.core is not None for region in world.regions.values()):
        world.join("d", seed="a", told="b")


_HAPPENINGS = (_cut, _mend, _slow, _restart, _publish, _ask, _ask, _grow)
