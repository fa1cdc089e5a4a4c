"""Stand-ins for what the gateway talks to, and the gateway on a real HTTP server on loopback."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

import msgspec
import uvicorn

from fedbus.broker.protocol import Start
from fedbus.client.bootstrap import Bootstrap
from fedbus.errors import FedbusError, NotFoundError, UnavailableError
from fedbus.event import Arrival, Event
from fedbus.position import Position, encode_cursor
from fedbus.routing.table import InstanceRoute, RoutingTable, region_route
from fedbus.topic import FilterSet
from fedbus_serve.asgi import Gateway

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LEDGER = "onprem.berlin/b1/4"


class Receipt(msgspec.Struct, frozen=True):
    id: str
    position: Position
    instance: str = "b1"
    duplicate: bool = False


class FakeBus:
    """A region with one ledger in memory; ``refuse`` decides per event whether it fails."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Event]] = []
        self.calls: list[int] = []
        self.idempotent: list[bool] = []
        self.refuse: Callable[[str, Event], FedbusError | None] = lambda topic, event: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.instances = ["b1"]
        self.streams = 0
        self.consumers: list[FakeConsumer] = []
        self.taken = 0
        self.grown = asyncio.Condition()

    async def publish_events(
        self, events: Sequence[tuple[str, Event]], *, idempotent: bool = False
    ) -> list[Receipt | FedbusError]:
        await self.gate.wait()
        self.calls.append(len(events))
        self.idempotent.append(idempotent)
        outcomes: list[Receipt | FedbusError] = []
        for topic, event in events:
            error = self.refuse(topic, event)
            if error is None:
                outcomes.append(Receipt(event.id, Position(LEDGER, len(self.log))))
                self.log.append((topic, event))
            else:
                outcomes.append(error)
        async with self.grown:
            self.grown.notify_all()
        return outcomes

    def subscribe(self, filters: Sequence[str], *, start: Start) -> "FakeStream":
        return FakeStream(self, FilterSet(filters), start)

    def consume(self, group: str, filters: Sequence[str], *, ack_deadline_ms: int) -> "FakeConsumer":
        self.consumers.append(FakeConsumer(self, FilterSet(filters)))
        return self.consumers[-1]

    def taking_instances(self) -> list[str]:
        return self.instances

    def routing(self, key: str | None = None) -> dict[str, object]:
        if key is not None:
            return {"region": "onprem.berlin", "key": key, "instance": "b1", "why": "it owns the slot"}
        routes = [{"region": "onprem.berlin", "instance": "b1", "endpoint": "tcp://h:1", "state": "healthy",
                   "rtt_ms": 0.4, "score_ms": 1.0, "share": 1.0}]  # fmt: skip
        return {
            "region": "onprem.berlin", "told_by": "gateway", "federation": "demo", "version": 7, "routes": routes,
            "failover": ["onprem.berlin"], "predicted_ms": {"onprem.berlin": 1.0}, "reasons": ["b1, the only one"],
        }  # fmt: skip

    async def close(self) -> None:
        self.instances = []


class FakeStream:
    def __init__(self, bus: FakeBus, filters: FilterSet, start: Start) -> None:
        self.bus = bus
        self.filters = filters
        at = {"earliest": 0, "latest": len(bus.log)}
        self.offset = start.cursor.get(LEDGER, 0) if start.kind == "cursor" else at.get(start.kind, 0)

    async def __aenter__(self) -> Self:
        self.bus.streams += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.bus.streams -= 1

    def cursor(self) -> str:
        return encode_cursor({LEDGER: self.offset})

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            async with self.bus.grown:
                await self.bus.grown.wait_for(lambda: self.offset < len(self.bus.log))
            offset, self.offset = self.offset, self.offset + 1
            topic, event = self.bus.log[offset]
            self.bus.taken += 1
            if self.filters.matches(topic):
                yield Event.decode(event.encode(), Arrival(topic, LEDGER, offset, 1, None))


class FakeDelivery(NamedTuple):
    event: Event
    instance: str
    position: Position


class FakeConsumer:
    """A member of a group; what is pulled from it is gone, and what is settled is noted."""

    def __init__(self, bus: FakeBus, filters: FilterSet) -> None:
        self.bus = bus
        self.filters = filters
        self.members = 0
        self.offset = 0
        self.settled: list[tuple[object, ...]] = []
        self.away: set[str] = set()

    async def open(self) -> None:
        self.members += 1

    async def close(self) -> None:
        self.members -= 1

    async def pull(self, most: int, wait_s: float) -> list[FakeDelivery]:
        found: list[FakeDelivery] = []
        while len(found) < most and self.offset < len(self.bus.log):
            offset, self.offset = self.offset, self.offset + 1
            topic, event = self.bus.log[offset]
            if self.filters.matches(topic):
                arrived = Event.decode(event.encode(), Arrival(topic, LEDGER, offset, 1, None))
                found.append(FakeDelivery(arrived, "b1", Position(LEDGER, offset)))
        return found

    async def ack(self, positions: Sequence[tuple[str, Position]]) -> list[FedbusError | None]:
        return [self._settle("ack", *where) for where in positions]

    async def nack(self, instance: str, position: Position, *, delay_ms: int | None, dead_letter: str) -> None:
        if error := self._settle("nack", instance, position, delay_ms, dead_letter):
            raise error

    async def extend(self, instance: str, position: Position) -> None:
        if error := self._settle("extend", instance, position):
            raise error

    def _settle(self, verb: str, instance: str, *what: object) -> FedbusError | None:
        if instance in self.away:
            return UnavailableError(f"instance {instance} is not connected")
        self.settled.append((verb, *what))
        return None


def minutes(count: int) -> datetime:
    return NOW + timedelta(minutes=count)


def decisions_of(region: str, instance: str) -> list[dict[str, object]]:
    """Directives, newest first."""
    return [
        {
            "id": f"{region}-1", "region": region, "action": "create", "instance": f"{instance}x", "size": "small",
            "state": "applying", "cause": "forecast", "created": minutes(-2),
            "reason": "2,040 events/s expected at 13:00 (q0.95 2,420), 2,000 in service",
        },
        {
            "id": f"{region}-0", "region": region, "action": "drain", "instance": f"{instance}w", "size": "small",
            "state": "done", "cause": "scale_in", "created": minutes(-90), "finished": minutes(-89),
            "reason": "1 holds the load of the last 10 min",
        },
    ]  # fmt: skip


def forecast_of(region: str, instance: str) -> dict[str, object]:
    """Two hours of load, an hour of forecast, and what was decided."""
    return {
        "region": region, "as_of": NOW, "made_at": minutes(-1), "model": "AutoARIMA+Fourier", "basis": "forecast",
        "mase": 0.71, "quantile": 0.95,
        "history": [[minutes(-m), 1000 + 300 * ((m * 7) % 11) / 11 + 4 * (120 - m)] for m in range(120, -1, -1)],
        "forecast": [[minutes(m), 1500 + 9 * m, 1300 + 8 * m, 1700 + 12 * m] for m in range(61)],
        "capacity": [[minutes(-120), 2000], [minutes(12), 4000]], "required_eps": 2420.0,
        "why": "2 small: the forecast needs 2,420 events/s at 13:00",
        "decisions": decisions_of(region, instance),
        "triggers": [{
            "trigger": "sale", "title": "spring sale", "origin": "learned", "state": "coming",
            "starts": minutes(20), "ends": minutes(50), "peak_eps": 2900.0, "why": "as 2 times before",
        }],
    }  # fmt: skip


def triggers_of(region: str) -> list[dict[str, object]]:
    """One announced in all regions, one that each detected for itself."""
    return [
        {
            "id": "report", "region": None, "starts": minutes(60), "ends": minutes(90), "cron": "0 9 * * 1",
            "duration_ms": 1_800_000, "effect": 1.0, "learned": [{
                "region": region, "occurrences": 3, "factor": 4.2, "minutes": 12.0,
                "explanation": "learned from 3 occurrences: × 4.2, 12 min",
            }],
        },
        {
            "id": "detected-daily", "region": region, "starts": minutes(60), "ends": minutes(70), "effect": 1.0,
            "cron": "0 13 * * *", "duration_ms": 600_000, "detected": True, "confidence": 0.9,
            "note": "daily 13:00", "learned": [{"region": region, "occurrences": 6, "factor": 2.0, "minutes": 9.0,
                         "explanation": "detected, 90% sure, learned from 6 occurrences: × 2, 9 min"}],
        },
    ]  # fmt: skip


def view_of(region: str) -> dict[str, list[dict[str, object]]]:
    """Every resource of one region, in the shapes of ``fedbus_serve.views``."""
    place = {"onprem.berlin": (52.5, 13.4), "aws.us-east-1": (38.9, -77.4), "gcp.asia-east1": (24.0, 120.5)}[region]
    peers = [name for name in REGIONS if name != region]
    provider = region.partition(".")[0]
    instance = f"{provider[0]}1"
    return {
        "regions": [{
            "region": region, "federation": "demo", "provider": provider, "latitude": place[0],
            "longitude": place[1], "instances": 1, "load_eps": 1234.0, "capacity_eps": 2000.0,
            "published_total": 1_000_000, "delivered_total": 2_500_000, "ledgers": 1, "under_replicated": 1,
            "geo_waiting_events": 3, "geo_waiting_ms": 1500,
            "as_of": NOW,
            "links": [{"source": peer, "state": "up", "rate_eps": 12.0, "lag_ms": 40, "behind_events": 7,
                       "topics": {"orders.created": 25}} for peer in peers],
            "recovery_point_ms": 60, "peering_dropped": {"garbage": 2},
        }],
        "instances": [
            {
                "region": region, "instance": instance, "state": "healthy", "size": "small",
                "ledger": f"{region}/{instance}/4", "load_eps": 1234.0, "capacity_eps": 2000.0, "since": minutes(-90),
            },
            {
                "region": region, "instance": f"{instance}x", "state": "starting", "ledger": "", "capacity_eps": 2000.0,
                "since": minutes(-1), "detail": "ordered by the forecast",
            },
        ],
        "ledgers": [{
            "region": region, "ledger": f"{region}/{instance}/4", "state": "OPEN", "end": 1_000_000, "copies": 1,
            "wanted_copies": 2, "under_replicated": True, "writer": f"{region}/{instance}",
            "dispatcher": f"{region}/{instance}", "members": [f"{region}/{instance}", f"{region}/{instance}x"],
        }],
        "forecasts": [forecast_of(region, instance)],
        "directives": decisions_of(region, instance)[:1],
        "routing": [{"region": region, "federation": "demo", "version": 7, "routes": []}],
        "slas": [{"filter": "orders.>", "max_latency_ms": 50, "availability": 0.999}],
        "triggers": triggers_of(region),
        "topics": [{"topic": f"orders.t{n}"} for n in range(5)],
        "subscriptions": [],
    }  # fmt: skip


REGIONS = ("onprem.berlin", "aws.us-east-1", "gcp.asia-east1")


class FakeControl:
    """Managers that answer at once, until they are told to be away."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.reads = 0
        self.changes: list[tuple[object, ...]] = []
        self.topics: list[str] = []
        self.groups: dict[tuple[str, str], dict[str, object]] = {}
        self.refuse: Callable[[str, str, str], FedbusError | None] = lambda region, change, name: None

    def regions(self) -> Sequence[str]:
        return REGIONS

    async def bootstrap(self, network: str) -> Bootstrap:
        self._answer("onprem.berlin")
        host = {"internal": "10.0.0.1", "external": "198.51.100.1"}[network]
        routes = [region_route(region, [InstanceRoute("b1", f"tcp://{host}:24000")]) for region in REGIONS]
        return Bootstrap(RoutingTable("demo", REGIONS[0], 7, routes), REGIONS[0])

    async def read(self, resource: str, region: str) -> list[dict[str, object]]:
        self._answer(region)
        return view_of(region)[resource]

    async def change(self, region: str, change: str, name: str, value: object = None) -> dict[str, object]:
        self._answer(region)
        if error := self.refuse(region, change, name):
            raise error
        self.changes.append((region, change, name, value))
        return {"instance": f"{region}/{name}", "region": region, "group": name}

    async def query(self, region: str, query: str, asked: object) -> object:
        self._answer(region)
        if query == "group":
            if (region, asked) not in self.groups:
                raise NotFoundError(f"region {region} has no group {asked!r}")
            return self.groups[region, asked]
        known = sorted(topic for topic in self.topics if topic > asked["after"])
        return known[: asked["limit"]]

    def _answer(self, region: str) -> None:
        self.reads += 1
        if region in self.away:
            raise UnavailableError(f"the manager of {region} is away")


def make_gateway(bus: FakeBus, control: FakeControl | None = None, **options: object) -> Gateway:
    async def connect(region: str) -> FakeBus:
        return bus

    numbers = iter(range(1, 1_000_000))
    options.setdefault("new_id", lambda: f"g-{next(numbers)}")
    return Gateway(control or FakeControl(), connect=connect, **options)


@contextlib.asynccontextmanager
async def serving(app: object, root_path: str = "") -> AsyncIterator[str]:
    """The application on a free port of loopback; yields its base address."""

    async def mounted(scope, receive, send):  # as Ray Serve does: the prefix is in both the path and root_path
        await app(scope | {"root_path": root_path} if "path" in scope else scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(mounted, log_level="warning", lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                assert not task.done()
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{root_path}"
    finally:
        server.should_exit = True
        await task
