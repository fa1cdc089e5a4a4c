"""A simulated federation with one group: regions that are cut off, lost and healed, and managers that move its home."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from msgspec.structs import replace

from fedbus.batch import BatchBuilder
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.group_spec import GroupHome, GroupRecord, GroupSpec
from fedbus.limits import Limits
from fedbus.ranges import RangeSet
from tests.broker.history import ROLLING
from tests.broker.simulation import Node, World, events_in, offsets_of

GROUP, TOPICS, FILTERS = "g", ("a", "b", "other"), ["a", "b"]
LIMITS = replace(ROLLING, member_credit_bytes=10_000, max_ack_window_events=200)
OPTIONS = p.GroupOptions(ack_deadline_ms=3000)
Place = tuple[str, int]


class Federation(World):
    """``known``: the group as each region's manager knows it; ``cuts``: regions that do not hear each other."""

    def __init__(self, regions: list[str], instances: int, limits: Limits = LIMITS) -> None:
        super().__init__()
        self.regions = regions
        self.cuts: set[frozenset[str]] = set()
        self.truth: dict[Place, bytes] = {}
        self.due: dict[bytes, Place] = {}  # what was acknowledged to its publisher, and is wanted
        self.got: set[bytes] = set()
        self.repeated: list[Place] = []  # delivered though some living instance knew that it was settled
        self.settled_at: dict[str, dict[str, RangeSet]] = defaultdict(lambda: defaultdict(RangeSet))  # durably, by node
        self.members: dict[bytes, Member] = {}
        self._told: dict[tuple[str, int, int], p.Shared] = {}
        self._bodies: dict[int, list[tuple[bytes, bool]]] = {}
        self._numbers = 0
        first = GroupSpec(GROUP, FILTERS, p.EARLIEST, OPTIONS, created_ns=1, home=GroupHome(regions[0], (), 1))
        self.known = dict.fromkeys(regions, GroupRecord(first))
        for region in regions:
            for at in range(instances):
                node = self.node(region, f"{region}{at}", limits)
                node.observe = lambda session, message, frames, node=node: self._sent(node, session, message, frames)
                self.push(node)
                node.commit()

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def of(self, region: str) -> list[Node]:
        return [node for node in self.nodes.values() if node.region == region]

    # -- managers ------------------------------------------------------------------------------------------------------

    def promote(self, region: str) -> None:
        """This region takes the group over, whoever has it as far as it knows."""
        spec = self.known[region].spec
        others = tuple(each for each in self.regions if each != region)
        self.known[region] = GroupRecord(replace(spec, home=GroupHome(region, others, spec.home.term + 1)))

    def gossip(self) -> None:
        """Managers that hear each other agree on the newest definition."""
        for region in self.regions:
            heard = [self.known[each] for each in self.regions if not self.severed(region, each)]
            self.known[region] = max(heard, key=lambda record: record.spec.age)

    def push(self, node: Node) -> None:
        """What the manager says to an instance, again and again."""
        if node.up:
            others = [each for each in self.nodes.values() if each.region != node.region]
            node.handle(e.ApplyFollows([e.PeerFollow(each.endpoint, "", (GROUP,)) for each in others]))
            node.handle(e.ApplyGroups([self.known[node.region]]))

    def relink(self) -> None:
        """Every region pulls all that the group wants from all others; each origin instance has one receiver there."""
        for region in self.regions:
            receivers = self.of(region)
            links: dict[str, list[e.PeerLink]] = {node.name: [] for node in receivers}
            others = [node for node in self.nodes.values() if node.region != region]
            for at, origin in enumerate(others):
                wants = [p.LinkFilter(pattern, 0) for pattern in FILTERS]
                to = receivers[at % len(receivers)]
                links[to.name] += [e.PeerLink(ledger, origin.endpoint, wants) for ledger in origin.disk.ledgers]
            for node in receivers:
                if node.links != links[node.name]:
                    node.hold_links(links[node.name])

    # -- the network between regions -----------------------------------------------------------------------------------

    def severed(self, a: str, b: str) -> bool:
        return frozenset((a, b)) in self.cuts

    def to_peer(self, node: Node, endpoint: str, frames: list[bytes]) -> None:
        origin = next(each for each in self.nodes.values() if each.endpoint == endpoint)
        message = p.decode_from_peer(frames)
        if isinstance(message, p.Taken):
            told = f"{node.name}#{node.starts}>{endpoint}", message.subscription, message.number
            self._durable(node, self._told[told])
        if not self.severed(node.region, origin.region):
            super().to_peer(node, endpoint, frames)

    def move_links(self, lose: Callable[[], bool] = lambda: False) -> bool:
        for (name, session), queue in self.connections.items():
            if session in self._dialled and self.severed(self._dialled[session][0].region, self.nodes[name].region):
                queue.clear()
        return super().move_links(lose)

    # -- what is sent --------------------------------------------------------------------------------------------------

    def publish(self, node: Node, topic: str, count: int) -> None:
        request, builder = self.number(), BatchBuilder()
        bodies = [b"%d/%d" % (request, at) for at in range(count)]
        for body in bodies:
            builder.add(topic, 0, body)
        self._bodies[request] = [(body, topic in FILTERS) for body in bodies]
        session = f"publisher{request}".encode()
        self.connect(node, session)
        batch = builder.build()
        node.receive(session, p.Hello(1, 1, "client", "p"))
        node.receive(session, p.Publish(request, "", 0), batch.index_bytes, batch.payload)

    def _sent(self, node: Node, session: bytes, message: p.Message, frames: tuple[bytes, ...]) -> None:
        if isinstance(message, p.Published):
            for at, (body, wanted) in enumerate(self._bodies[message.request]):
                if wanted:
                    self.due[body] = (message.ledger, message.first_offset + at)
        elif isinstance(message, p.Shared):
            self._told[session.decode(), message.subscription, message.number] = message
        elif isinstance(message, p.Ok) and session in self.members:
            for ledger, offset in self.members[session].waiting.pop(message.request, ()):
                self.settled_at[node.name][ledger].add(offset, offset + 1)
        elif isinstance(message, p.Deliver) and session in self.members:
            self._delivered(node, message, frames)

    def knew(self, node: Node, place: Place) -> bool:
        """Whether this is settled, durably, as far as that instance has said."""
        return place[1] in self.settled_at[node.name][place[0]]

    def _durable(self, node: Node, shared: p.Shared) -> None:
        for part in shared.parts:
            for settled in part.settled:
                self.settled_at[node.name][settled.ledger].add_all(settled.ranges)

    def _delivered(self, node: Node, deliver: p.Deliver, frames: tuple[bytes, ...]) -> None:
        group = node.core.subscriptions.groups.get(GROUP)
        assert group is not None
        home = group.spec.home.region
        assert home == node.region, f"rule 13: {node.name} dispatches, the home is {home}"
        for (topic, _, body), offset in zip(events_in(frames), offsets_of(deliver.ranges), strict=True):
            place = (deliver.ledger, offset)
            if any(self.knew(each, place) for each in self.nodes.values() if each.up):
                self.repeated.append(place)
            assert topic in FILTERS, "not asked for"
            assert self.truth.setdefault(place, body) == body, f"V3: {place} is {self.truth[place]!r} and {body!r}"
            assert not self.knew(node, place), f"V5: {node.name} knew {place} as settled"


class Member:
    """A consumer who stays at one instance, whether it is of the home or not, and keeps what it got in any case."""

    def __init__(self, world: Federation, node: Node) -> None:
        self.world = world
        self.node = node
        self.session = b""
        self.held: list[Place] = []
        self.waiting: dict[int, list[Place]] = {}
        self.connect()

    def connect(self) -> None:
        """Anew: what it holds may be acknowledged in the new session too."""
        self.session = f"m{self.world.number()}".encode()
        self.world.members[self.session] = self
        self.inbox = self.world.connect(self.node, self.session)
        self.waiting.clear()
        self.starts = self.node.starts
        self.node.receive(self.session, p.Hello(1, 1, "client", "m"))
        self.join()

    def join(self) -> None:
        self.standing = False
        request = p.Subscribe(self.world.number(), 1, FILTERS, p.EARLIEST, 10, GROUP, self.node.name, OPTIONS)
        self.node.receive(self.session, request)

    @property
    def gone(self) -> bool:
        return self.starts != self.node.starts or (self.node.name, self.session) not in self.world.connections

    def ping(self) -> None:
        """Nobody is silent for so long that the session ends."""
        if not self.gone:
            self.node.receive(self.session, p.Ping())

    def hear(self) -> None:
        while self.inbox:
            message, frames = self.inbox.popleft()
            if isinstance(message, p.Deliver):
                self.held += [(message.ledger, offset) for offset in offsets_of(message.ranges)]
                self.world.got.update(body for _, _, body in events_in(frames))
                self.node.receive(self.session, p.Credit(1, len(events_in(frames))))
            elif isinstance(message, p.Subscribed):
                self.standing = True
            elif isinstance(message, p.Ended | p.Refused):
                self._refused(message)

    def _refused(self, message: p.Ended | p.Refused) -> None:
        if message.code == "unknown_session":
            self.world.disconnect(self.node, self.session)
        elif isinstance(message, p.Ended):
            self.standing = False
        else:
            assert message.request not in self.waiting or message.code == "storage", f"a late ack: {message.detail}"
        if message.code == "group_elsewhere":
            assert message.region in self.world.known, "where to?"

    def ack(self, count: int) -> None:
        """Acknowledge the oldest it holds; late if its group has gone meanwhile."""
        places, self.held = self.held[:count], self.held[count:]
        if places and not self.gone:
            request = self.world.number()
            if self.standing:
                self.waiting[request] = places
            settled = [p.Settled(ledger, [(offset, offset + 1)]) for ledger, offset in places]
            self.node.receive(self.session, p.Ack(1, settled, request))
