"""A consumer of a replicated region: a member of one group at one node, where it comes again when it was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedbus.broker import protocol as p
from tests.broker.clients import Place
from tests.broker.replica_node import ReplicaNode
from tests.broker.simulation import events_in, offsets_of

if TYPE_CHECKING:
    from tests.broker.replicated_run import ReplicatedRun


class Reader:
    """A member of the group at one node; takes everything, and acknowledges it."""

    def __init__(self, run: ReplicatedRun, node: ReplicaNode) -> None:
        self.run = run
        self.node = node
        self.session = b""
        self.start = -1
        self.acks: dict[int, list[Place]] = {}

    def gone(self) -> bool:
        return self.start != self.node.starts or (self.node.name, self.session) not in self.run.world.connections

    def connect(self) -> None:
        self.session = self.run.session("r")
        self.start = self.node.starts
        self.acks = {}
        self.inbox = self.run.world.connect(self.node, self.session)
        self.run.readers_by_session[self.session] = self
        self.node.receive(self.session, p.Hello(1, 1, "client", "reader"))
        options = p.GroupOptions(ack_deadline_ms=500)
        self.node.receive(
            self.session, p.Subscribe(self.run.number(), 1, [">"], p.EARLIEST, 50, "g", "m", options=options)
        )

    def hear(self) -> None:
        while not self.gone() and self.inbox:
            message, frames = self.inbox.popleft()
            if isinstance(message, p.Deliver) and message.ranges:
                self.run.got.update(body for _, _, body in events_in(frames))
                request = self.run.number()
                places = [(message.ledger, offset) for offset in offsets_of(message.ranges)]
                self.acks[request] = places
                settled = [p.Settled(message.ledger, message.ranges)]
                self.node.receive(self.session, p.Ack(1, settled, request))
                self.node.receive(self.session, p.Credit(1, len(places)))
            elif isinstance(message, p.Ended | p.Refused):
                self.run.world.disconnect(self.node, self.session)
