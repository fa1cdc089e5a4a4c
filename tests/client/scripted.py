"""A scripted bus instance: a ROUTER that answers sessions by itself and everything else as the test says."""

import asyncio

import zmq

from fedbus.batch import Batch
from fedbus.broker import protocol as wire
from fedbus.event import Event
from fedbus.limits import DEFAULT
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route

REGION = "local.plain"


class Scripted:
    """``received`` holds (session, message, frames) of everything that is no hello, ping or goodbye, in order."""

    def __init__(self, name="b1", *, port=0, epoch=1, limits=DEFAULT, store=True):
        self.name = f"{REGION}/{name}"
        self.ledger = f"{self.name}/{epoch}"
        self.limits = limits
        self.store = store  # answer publishes as stored
        self.silent = False
        self.table = None
        self.sessions = []
        self.received = []
        self.offset = 0
        self._known = {}
        self._router = zmq.Context.instance().socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        try:
            self._router.bind(f"tcp://127.0.0.1:{port or '*'}")
        except zmq.ZMQError:
            self._router.close(0)
            raise
        self.port = int(self._router.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").rsplit(b":", 1)[1])
        self._loop = asyncio.get_running_loop()
        self._reader = self._loop.create_task(self._run())

    @property
    def endpoint(self):
        return f"tcp://127.0.0.1:{self.port}"

    def close(self):
        self._reader.cancel()
        self._router.close(0)

    def send(self, session, message, *frames):
        self._router.send_multipart([session, wire.encode(message), *frames], zmq.NOBLOCK)

    def of(self, kind):
        """What was received of one kind."""
        return [message for _, message, _ in self.received if isinstance(message, kind)]

    def published(self):
        """(sequence, ids) of every batch that came, in order."""
        return [
            (message.sequence, [Event.decode(data).id for _, _, data in Batch.decode(*frames[1:]).events()])
            for _, message, frames in self.received
            if isinstance(message, wire.Publish)
        ]

    def push(self, table):
        for session in self.sessions:
            self.send(session, wire.Table(table.version), table.encode())

    async def _run(self):
        while True:
            while self._router.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                session, *frames = self._router.recv_multipart(zmq.NOBLOCK)
                if not self.silent:
                    self._handle(session, wire.decode_from_peer(frames), frames)
            await asyncio.sleep(0.001)

    def _handle(self, session, message, frames):
        if isinstance(message, wire.Hello):
            self.sessions.append(session)
            version = self.table.version if self.table else 0
            self.send(session, wire.Welcome(1, REGION, self.name, self.ledger, version, 10_000,
                                            self.limits.publish_window_bytes, self.limits))  # fmt: skip
            if self.table:
                self.send(session, wire.Table(version), self.table.encode())
        elif session not in self.sessions:
            self.send(session, wire.Refused(getattr(message, "request", 0), "unknown_session", "hello?", True))
        elif isinstance(message, wire.Ping):
            self.send(session, wire.Pong(message.nonce, self.name, self.ledger, "healthy", {}))
        elif not isinstance(message, wire.Goodbye):
            self.received.append((session, message, frames))
            if isinstance(message, wire.Publish) and self.store:
                self.answer(session, message, frames)

    def answer(self, session, message, frames):
        """As a broker would: stored once per (producer, sequence)."""
        key = (message.producer, message.sequence)
        count = Batch.decode(frames[1], frames[2]).count
        duplicate = key in self._known
        first = self._known.setdefault(key, self.offset)
        self.offset += 0 if duplicate else count
        self.send(session, wire.Published(message.request, self.ledger, first, count, duplicate))


async def restarted(make, closed):
    """The next incarnation of a closed instance, on its port, as soon as ZeroMQ has let go of that."""
    async with asyncio.timeout(20):
        while True:
            try:
                return make(port=closed.port, epoch=2)
            except zmq.ZMQError:
                await asyncio.sleep(0.005)


def table_of(version, *instances, home=REGION, states=None):
    """A routing table of scripted instances."""
    routes = [InstanceRoute(i.name, i.endpoint, (states or {}).get(i.name, "healthy")) for i in instances]
    return RoutingTable("f", home, version, [region_route(REGION, routes)])
