"""One session with one simulated node, for tests that tell it word by word."""

from __future__ import annotations

import msgspec

from fedbus.batch import BatchBuilder
from fedbus.broker import protocol as p
from fedbus.limits import Limits
from tests.broker.simulation import SMALL, Node, World, events_in

LEDGER = "here/n0/0"
ROOMY = msgspec.structs.replace(
    SMALL, uncommitted_bytes=10**6, member_credit_bytes=10**6, tail_cache_bytes=10**6, max_ack_window_events=1000
)


class Talk:
    """A session with a node of a world of its own."""

    def __init__(self, node: Node, session: bytes = b"s") -> None:
        self.node = node
        self.session = session
        self.inbox = node.world.connect(node, session)
        self.say(p.Hello(1, 1, "client", "test"))
        self.hear(p.Welcome)

    def say(self, message: p.Message, *frames: bytes) -> None:
        self.node.receive(self.session, message, *frames)

    def heard(self, kind: type[p.Message]) -> list[p.Message]:
        """All messages of that kind so far; the others are gone."""
        messages = [message for message, _ in self.inbox if isinstance(message, kind)]
        self.inbox.clear()
        return messages

    def hear(self, kind: type[p.Message]) -> p.Message:
        [message] = self.heard(kind)
        return message

    def publish(self, *bodies: bytes, topic: str = "a", keys: tuple[int, ...] = (), **request: object) -> None:
        builder = BatchBuilder()
        for at, body in enumerate(bodies):
            builder.add(topic, keys[at] if keys else 0, body)
        batch = builder.build()
        fields = {"request": 1, "producer": "", "sequence": 0} | request
        self.say(p.Publish(**fields), batch.index_bytes, batch.payload)  # type: ignore[arg-type]

    def bodies(self) -> list[bytes]:
        """Of the events delivered so far."""
        found = [b for m, frames in self.inbox if isinstance(m, p.Deliver) for _, _, b in events_in(frames)]
        self.inbox.clear()
        return found

    def subscribe(self, group: str = "", filters: tuple[str, ...] = (">",), credit: int = 50, **more: object) -> None:
        fields = {"start": p.EARLIEST, "group": group, "member": self.session.decode()} | more
        self.say(p.Subscribe(2, 1, list(filters), credit=credit, **fields))  # type: ignore[arg-type]


def start(limits: Limits = ROOMY) -> Node:
    return World().node("here", "n0", limits)


def settle(node: Node) -> None:
    while node.disk.queue or node.reads:
        node.commit()
        node.read()
