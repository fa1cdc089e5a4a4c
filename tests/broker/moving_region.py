"""A region whose manager makes one routing table after the other while its instances crash and come back."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from fedbus.broker import effects as e
from fedbus.keys import key_hash, slot_of
from fedbus.routing.table import DRAINING, HEALTHY, InstanceRoute, RoutingTable, region_route
from tests.broker.simulation import SMALL, Node, World

KEYS = [key_hash(f"k{n}") for n in range(5)]
LIMITS = replace(SMALL, key_handover_max_ms=10**9, uncommitted_bytes=10**6, max_ack_window_events=25)
NAMES = ("n0", "n1", "n2")


class MovingRegion:
    """``owners``: per key who has it by the newest of the ``tables``. Most methods are a step a run may take."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.world = World()
        self.nodes = [self.world.node("here", name, LIMITS) for name in NAMES]
        self.tables: list[bytes] = []
        self.owners: list[Node] = []
        self._numbers = 0

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def any_node(self, *, up: bool = True) -> Node:
        return self.random.choice([node for node in self.nodes if node.up is up] or self.nodes)

    def table(self) -> None:
        """The manager makes another routing table; it gets to the instances one by one."""
        taking = self.random.sample(NAMES, self.random.randint(1, len(NAMES)))
        routes = [InstanceRoute(n.name, n.endpoint, HEALTHY if n.name in taking else DRAINING) for n in self.nodes]
        route = region_route("here", routes)
        places = route.owner_places()
        self.owners = [self.nodes[places[slot_of(key)]] for key in KEYS]
        self.tables.append(RoutingTable("f", "here", len(self.tables) + 1, [route]).encode())

    def hand_out(self, node: Node | None = None) -> None:
        node = node or self.any_node()
        if node.up:
            node.handle(e.ApplyTable(len(self.tables), self.tables[-1]))

    def move(self) -> None:
        self.world.move_links(lambda: self.random.random() < 0.1)

    def commit(self) -> None:
        self.any_node().commit(self.random.randint(1, 8))

    def read(self) -> None:
        self.any_node().read()

    def wait(self) -> None:
        self.world.tick(self.random.choice([20, 20, 20, 150, 500]))

    def crash(self) -> None:
        node = self.any_node()
        if node.up and not node.core.key_slots.handovers.under_way:
            node.crash(self.random.choice([0, 0, 1, 3]))

    def restart(self) -> None:
        node = self.any_node(up=False)
        if not node.up:
            node.start()
