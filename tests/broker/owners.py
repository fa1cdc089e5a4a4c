"""Several owners of one region, and producers that send their batches to another one when an answer is late.

What was sent may arrive much later, also after its sender has gone elsewhere with it; owners crash, come back, have
full disks, and are taken over for good. The producers use the client's own :class:`~fedbus.client.parcel.Parcel`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from random import Random

from fedbus.batch import BatchBuilder
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.client.parcel import Parcel
from fedbus.errors import FedbusError
from fedbus.keys import slot_of
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from tests.broker.simulation import SMALL, Node, World, events_in, offsets_of

REGION = "here"
KEYS = 6
Place = tuple[str, int]


class Sender:
    """One producer. Keys belong to nodes by ``owners``; a parcel without a key goes anywhere."""

    def __init__(self, region: OwnerRegion, name: str, *, idempotent: bool = True) -> None:
        self.region = region
        self.name = name
        self.idempotent = idempotent
        self.sequence = 0
        self.bodies = 0
        self.parcels: dict[int, Parcel] = {}
        self.in_flight: dict[int, tuple[Parcel, bytes]] = {}  # request → what, in which session
        self.where: dict[int, str] = {}  # sequence → node
        self.sessions: dict[str, tuple[bytes, str]] = {}  # node → session, ledger it wrote when greeted
        self.acknowledged: set[bytes] = set()

    # -- as a parcel sees it -------------------------------------------------------------------------------------------

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence

    def split(self, parcel: Parcel, parts: Sequence[Parcel]) -> None:
        del self.parcels[parcel.sequence]
        self.parcels |= {part.sequence: part for part in parts}

    def settled(self, parcel: Parcel, error: FedbusError | None) -> None:
        assert error is None
        del self.parcels[parcel.sequence]
        self.acknowledged |= {bytes(body) for _, _, body in parcel.batch.events()}

    # -- steps ---------------------------------------------------------------------------------------------------------

    def publish(self, keys: Sequence[int]) -> None:
        builder = BatchBuilder()
        for key in keys:
            self.bodies += 1
            builder.add("a.b", key, f"{self.name}/{self.bodies}".encode())
        parcel = Parcel(self, self.next_sequence(), builder.build(), None, 0)
        self.parcels[parcel.sequence] = parcel
        self.send(parcel, self.region.owners)

    def send(self, parcel: Parcel, owners: Sequence[str]) -> None:
        """Send it to whom its keys belong, in parts if that are several."""
        if parcel.batch.keyed:
            parts = parcel.split(lambda hashed: owners[slot_of(hashed) % len(owners)])
        else:
            parts = {owners[parcel.sequence % len(owners)]: parcel}
        for name, part in parts.items():
            self.where[part.sequence] = name
            session, ledger = self._session(name)
            part.goes_to(ledger)
            request = self.region.number()
            publish = p.Publish(
                request, self.name, part.sequence, self.region.table.version, [], part.tried_besides(ledger),
                part.attempt, self.idempotent,
            )  # fmt: skip
            self.in_flight[request] = (part, session)
            frames = [p.encode(publish), bytes(part.batch.index_bytes), bytes(part.batch.payload)]
            self.region.to_nodes.append((name, session, frames))

    def _session(self, name: str) -> tuple[bytes, str]:
        node = self.region.world.nodes[name]
        if name in self.sessions and (name, self.sessions[name][0]) in self.region.world.connections:
            return self.sessions[name]
        session = f"{self.name}-{self.region.number()}".encode()
        self.region.world.connect(node, session)
        hello = p.Hello(1, 1, "client", self.name)
        self.region.to_nodes.append((name, session, [p.encode(hello)]))
        self.sessions[name] = (session, node.core.ledgers.current)
        return self.sessions[name]

    def give_up(self, owners: Sequence[str], nodes: Sequence[str]) -> None:
        """No answer from these nodes: everything unanswered there goes elsewhere, in its order."""
        for request, (parcel, _) in list(self.in_flight.items()):
            if self.where[parcel.sequence] in nodes:
                del self.in_flight[request]
                parcel.may_survive_in(parcel.last_ledger)
        for name in nodes:
            session, _ = self.sessions.pop(name, (b"", ""))
            self.region.abandoned(session)
        waiting = {parcel.sequence for parcel, _ in self.in_flight.values()}
        for parcel in sorted(self.parcels.values(), key=lambda each: (each.order, each.sequence)):
            if parcel.sequence not in waiting:
                self.send(parcel, owners)

    def hear(self) -> None:
        for name, (session, _) in list(self.sessions.items()):
            inbox = self.region.world.connections.get((name, session), deque())
            while inbox:
                message, _ = inbox.popleft()
                known = self.in_flight.pop(getattr(message, "request", 0), None)
                if known is None:
                    continue
                if isinstance(message, p.Published):
                    known[0].stored(message, name)
                else:
                    assert isinstance(message, p.Refused), message
                    assert message.retryable, message


class Reader:
    """A member of group ``g`` at one node; ``places``: where it saw each event."""

    def __init__(self, region: OwnerRegion, node: Node, group: str) -> None:
        self.region = region
        self.node = node
        self.group = group
        self.session = b""
        self.places: dict[bytes, set[Place]] = defaultdict(set)
        self.newest: dict[tuple[str, int], int] = {}

    def attach(self) -> None:
        self.session = f"{self.group or 'live'}-{self.region.number()}".encode()
        self.inbox = self.region.world.connect(self.node, self.session)
        self.node.receive(self.session, p.Hello(1, 1, "client", "reader"))
        request = p.Subscribe(1, 1, [">"], p.EARLIEST, 1000, self.group, "reader")
        self.node.receive(self.session, request)

    def hear(self) -> None:
        if not self.node.up:
            return
        if (self.node.name, self.session) not in self.region.world.connections:
            self.attach()
        self.node.receive(self.session, p.Ping())
        while self.inbox:
            message, frames = self.inbox.popleft()
            if isinstance(message, p.Deliver):
                events = events_in(frames)
                for (_, key, body), offset in zip(events, offsets_of(message.ranges), strict=True):
                    self._saw(key, body, (message.ledger, offset))
                if events:
                    self.node.receive(self.session, p.Ack(1, [p.Settled(message.ledger, message.ranges)]))
                    self.node.receive(self.session, p.Credit(1, len(events)))
            elif isinstance(message, p.Ended) or getattr(message, "code", "") in ("unknown_session", "storage"):
                self.region.world.disconnect(self.node, self.session)

    def _saw(self, key: int, body: bytes, place: Place) -> None:
        """V4: the first deliveries of a key follow its ledger, whatever was withheld in between."""
        if key and place not in self.places[body]:
            newest = self.newest.get((place[0], key), -1)
            assert newest < place[1], f"V4: {body!r} at {place} of key {key} after {newest}"
            self.newest[place[0], key] = place[1]
        self.places[body].add(place)


class OwnerRegion:
    """A region of ``count`` nodes, their producers and readers. Steps are drawn from ``random``."""

    def __init__(self, random: Random, count: int = 3, *, idempotent: bool = True) -> None:
        self.random = random
        self.world = World()
        self.to_nodes: deque[tuple[str, bytes, list[bytes]]] = deque()
        self.late: list[tuple[str, bytes, list[bytes]]] = []
        self.gone: set[str] = set()
        self._numbers = 0
        names = [f"n{at}" for at in range(count)]
        routes = [InstanceRoute(f"{REGION}/{name}", f"tcp://{name}") for name in names]
        self.table = RoutingTable("f", REGION, 1, [region_route(REGION, routes)])
        for name in names:
            self.world.node(REGION, name, SMALL)
            self.greet(name)
        self.owners = names
        self.senders = [Sender(self, f"p{at}", idempotent=idempotent) for at in range(2)]
        self.readers = [Reader(self, node, "g") for node in self.world.nodes.values()]

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def greet(self, name: str) -> None:
        self.world.nodes[name].handle(e.ApplyTable(1, self.table.encode()))

    def living(self) -> list[str]:
        return [name for name in self.world.nodes if name not in self.gone]

    # -- steps ---------------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        sender = self.random.choice(self.senders)
        if len(sender.parcels) < 6:
            keyed = self.random.random() < 0.6
            sender.publish([self.random.randrange(1, KEYS) if keyed else 0 for _ in range(self.random.randint(1, 4))])

    def carry(self) -> None:
        """Some of what is under way arrives: what one session sent in its order, sessions in any order."""
        for _ in range(self.random.randint(1, 6)):
            if self.to_nodes:
                first = self.random.randrange(min(4, len(self.to_nodes)))
                session = self.to_nodes[first][1]
                place = next(at for at, sent in enumerate(self.to_nodes) if sent[1] == session)
                self._arrive(place)

    def _arrive(self, place: int) -> None:
        name, session, frames = self.to_nodes[place]
        del self.to_nodes[place]
        node = self.world.nodes[name]
        if node.up and (name, session) in self.world.connections:
            node.handle(e.Received(session, frames))

    def abandoned(self, session: bytes) -> None:
        """What was sent in a session that its client has given up may still arrive, now or much later."""
        if self.random.random() < 0.5:
            self.late += [sent for sent in self.to_nodes if sent[1] == session]
            self.to_nodes = deque(sent for sent in self.to_nodes if sent[1] != session)

    def arrive_late(self) -> None:
        """A whole session that somebody has given up long ago comes in."""
        if self.late:
            session = self.random.choice(self.late)[1]
            self.to_nodes.extend(sent for sent in self.late if sent[1] == session)
            self.late = [sent for sent in self.late if sent[1] != session]

    def reroute(self) -> None:
        """A producer has waited long enough for some nodes."""
        silent = self.random.sample(self.living(), self.random.randint(1, len(self.living())))
        owners = [name for name in self.living() if name not in silent] or self.living()
        self.owners = self.random.sample(owners, len(owners))
        self.random.choice(self.senders).give_up(self.owners, silent)

    def commit(self) -> None:
        self.world.nodes[self.random.choice(self.living())].commit(self.random.randint(1, 6))

    def read(self) -> None:
        self.world.nodes[self.random.choice(self.living())].read()

    def hear(self) -> None:
        for client in (*self.senders, *self.readers):
            client.hear()

    def peers(self) -> None:
        self.world.move_links(lambda: self.random.random() < 0.15)

    def tick(self) -> None:
        self.world.tick(self.random.choice([20, 20, 100, 300, 1100]))


class OwnerFaults(OwnerRegion):
    """What goes wrong, and the end of it."""

    def lose(self) -> None:
        """A connection breaks; what was under way in it is lost."""
        if self.to_nodes:
            name, session, _ = self.to_nodes[self.random.randrange(len(self.to_nodes))]
            self.world.disconnect(self.world.nodes[name], session)

    def crash(self) -> None:
        node = self.world.nodes[self.random.choice(self.living())]
        if node.up:
            node.crash(self.random.choice([0, 0, 1, 3]))
            for name, session, frames in (*self.to_nodes, *self.late):  # these connections are yet to come
                if name == node.name and isinstance(p.decode_from_peer(frames), p.Hello):
                    self.world.connect(node, session)

    def restart(self) -> None:
        for name in self.living():
            if not self.world.nodes[name].up:
                self.world.nodes[name].start()
                self.greet(name)

    def fill_disk(self) -> None:
        self.world.nodes[self.random.choice(self.living())].disk.full = self.random.random() < 0.4

    def take_over(self) -> None:
        """A node that is down never comes back; another one serves its ledgers from now on."""
        lost = [self.world.nodes[name] for name in self.living() if not self.world.nodes[name].up]
        heirs = [self.world.nodes[name] for name in self.living() if self.world.nodes[name].up]
        if lost and len(heirs) > 1:
            node, heir = lost[0], self.random.choice(heirs)
            heir.disk.full = False
            drain(heir)
            closed = {ledger: node.disk.end(ledger) for ledger in node.disk.ledgers}
            state = list(node.disk.state_records())
            heir.disk.ledgers = {**node.disk.ledgers, **heir.disk.ledgers}
            self.gone.add(node.name)
            self.owners = [name for name in self.owners if name != node.name] or self.living()
            heir.handle(e.Adopt(closed, state))
            drain(heir)

    # -- the end -------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Faults end; everybody who is not gone comes back, everything unanswered is sent until it is answered."""
        for name in self.living():
            self.world.nodes[name].disk.full = False
        self.restart()
        for turn in range(60):
            if turn == 3:  # all has been judged meanwhile
                self.to_nodes.extend(self.late)
                self.late.clear()
            while self.to_nodes:
                self._arrive(0)
            self.work()
            if turn % 3 == 2:
                for sender in self.senders:
                    sender.give_up(self.living(), list(self.world.nodes))
            self.world.tick(150)
            waiting = any(len(self.world.nodes[name].core.ledgers.withheld) for name in self.living())
            if not waiting and not any(sender.parcels for sender in self.senders) and turn > 6:
                break
        self.check()

    def work(self) -> None:
        for _ in range(4):
            for name in self.living():
                drain(self.world.nodes[name])
            self.world.move_links()
            self.hear()

    def check(self) -> None:
        """V5: each event that was acknowledged has exactly one position at which it is delivered."""
        late = [Reader(self, self.world.nodes[name], "") for name in self.living()]
        self.readers += late
        for _ in range(12):
            self.work()
            self.world.tick(20)
        for name in self.living():
            assert not len(self.world.nodes[name].core.ledgers.withheld), f"{name} withholds for ever"
        for kind, readers in (("groups", self.readers[: -len(late)]), ("streams", late)):
            places: dict[bytes, set[Place]] = defaultdict(set)
            for reader in readers:
                for body, seen in reader.places.items():
                    places[body] |= seen
            for sender in self.senders:
                assert not sender.parcels, f"unanswered: {list(sender.parcels)}"
                for body in sender.acknowledged:
                    assert places[body], f"V1: {body!r} never came to {kind}"
            for body, seen in places.items():
                assert len(seen) == 1, f"V5: {body!r} was delivered to {kind} at {sorted(seen)}"


def drain(node: Node) -> None:
    while node.disk.queue or node.reads:
        node.commit()
        node.read()


WEIGHTS = {
    "publish": 30, "carry": 45, "commit": 30, "hear": 25, "read": 15, "tick": 15, "peers": 25, "reroute": 7, "lose": 4,
    "crash": 2, "restart": 5, "fill_disk": 2, "take_over": 0.6, "arrive_late": 4,
}  # fmt: skip


def run_owners(seed: int, steps: int = 250) -> None:
    """Raises AssertionError if a promise is broken; the same seed makes the same run."""
    print(f"owners, seed {seed}, {steps} steps")
    random = Random(seed)
    region = OwnerFaults(random)
    for name in random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=steps):
        getattr(region, name)()
    region.settle()
