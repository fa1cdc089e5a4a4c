"""A plain client on a DEALER socket: says what a test tells it to say, and waits for answers with a deadline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import zmq

from fedbus.batch import Batch, BatchBuilder
from fedbus.broker import protocol as p

Kind = TypeVar("Kind", bound=p.Message)
DEADLINE_MS = 20_000


def batch_of(bodies: Sequence[bytes], topic: str = "a.b", key: int = 0) -> Batch:
    builder = BatchBuilder()
    for body in bodies:
        builder.add(topic, key, body)
    return builder.build()


class Peer:
    """One session with the instance at ``port``; begins with a hello unless told not to."""

    def __init__(self, port: int, *, hello: bool = True, name: str = "peer", want_table: bool = False) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.sndhwm = self.socket.rcvhwm = 0
        self.socket.reconnect_ivl = 20
        self.socket.connect(f"tcp://127.0.0.1:{port}")
        self._number = 0
        self._kept: list[tuple[p.Message, list[bytes]]] = []
        self.hello = p.Hello(1, 1, "client", name, want_table=want_table)
        if hello:
            self.say(self.hello)
            self.welcome = self.hear(p.Welcome)[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._context.destroy(linger=0)

    def number(self) -> int:
        self._number += 1
        return self._number

    def say(self, message: p.Message, *frames: Any) -> None:
        self.socket.send_multipart([p.encode(message), *frames])

    def hear(
        self, kind: type[Kind], wanted: Callable[[Kind], bool] = lambda _: True, deadline_ms: int = DEADLINE_MS
    ) -> tuple[Kind, list[bytes]]:
        """The next message of that kind; others are kept for later."""
        for at, (message, frames) in enumerate(self._kept):
            if isinstance(message, kind) and wanted(message):
                del self._kept[at]
                return message, frames
        while self.socket.poll(deadline_ms):
            frames = self.socket.recv_multipart()
            message = p.decode_from_instance(frames)
            if isinstance(message, kind) and wanted(message):
                return message, frames
            self._kept.append((message, frames))
        raise TimeoutError(f"no {kind.__name__} came, but {[message for message, _ in self._kept][-3:]}")

    def publish(self, bodies: Sequence[bytes], *, producer: str = "", sequence: int = 0, topic: str = "a.b") -> int:
        """Send a batch; returns the request's number."""
        request, batch = self.number(), batch_of(bodies, topic)
        self.say(p.Publish(request, producer, sequence), batch.index_bytes, batch.payload)
        return request

    def published(self, bodies: Sequence[bytes], *, producer: str = "", sequence: int = 0) -> p.Published:
        """Send a batch and wait until it is durable."""
        request = self.publish(bodies, producer=producer, sequence=sequence)
        return self.hear(p.Published, lambda message: message.request == request)[0]

    def subscribe(
        self, filters: list[str], group: str = "", start: p.Start = p.EARLIEST, credit: int = 1000, member: str = "m"
    ) -> int:
        number = self.number()
        self.say(p.Subscribe(number, number, filters, start, credit, group, member))
        self.hear(p.Subscribed, lambda message: message.request == number)
        return number

    def events(self, count: int) -> list[bytes]:
        """The bodies of the next events, at least ``count``."""
        found: list[bytes] = []
        while len(found) < count:
            _, frames = self.hear(p.Deliver)
            if frames[1]:
                found += [bytes(body) for _, _, body in Batch.decode(frames[1], frames[2]).events()]
        return found

    def ack(self, number: int, settled: list[p.Settled]) -> None:
        """Acknowledge and wait until that is durable."""
        request = self.number()
        self.say(p.Ack(number, settled, request))
        self.hear(p.Ok, lambda message: message.request == request)
