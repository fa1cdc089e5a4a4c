"""Key slots as they move between the instances of a region: both sides of the hand-over, at one instance."""

from __future__ import annotations

from collections.abc import Iterable

from fedbus.broker import protocol as p
from fedbus.broker.group import Group
from fedbus.broker.handover import Handovers, Marks
from fedbus.broker.ledger import Ledgers
from fedbus.broker.peers import Peers
from fedbus.broker.release import Releases
from fedbus.routing.table import RoutingTable


class KeySlots:
    """``handovers``: what this instance takes over; ``releases``: what others take over from it."""

    def __init__(self, region: str, instance: str, ledgers: Ledgers, peers: Peers, max_ms: int) -> None:
        marks = Marks(region, instance, ledgers)
        self.handovers = Handovers(instance, ledgers, peers, marks, max_ms)
        self.releases = Releases(ledgers, marks)
        self._region = region

    def apply(self, table: RoutingTable, now_ns: int) -> None:
        """From now on this table is in force here."""
        self.releases.applied(table.version)
        self.handovers.apply(table.version, table.region(self._region), now_ns)

    def received(self, endpoint: str, message: p.FromInstance, now_ns: int) -> None:
        """Another instance says something."""
        if isinstance(message, p.SlotsOpen):
            self.handovers.received(endpoint, message)
        elif isinstance(message, p.Welcome):
            self.handovers.welcomed(now_ns)

    def tick(self, groups: Iterable[Group], now_ns: int) -> None:
        """Time has passed: answers that have changed, questions to repeat, and those that wait no longer."""
        every = list(groups)
        self.releases.tell(every)
        for late in self.handovers.tick(now_ns):
            for group in every:
                barred = group.deliveries.queued.barred_slots()
                group.order_breaks += (late.open_for(group.spec.name) & barred).bit_count()
