"""The gateway as an ASGI application: finds the route, and keeps the two publish routes free of any framework.

Paths are looked at below ``root_path``, so that it works under any route prefix. Everything that fails becomes a
problem here. Which server runs it (Ray Serve, or uvicorn in a test) is left to others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from urllib.parse import parse_qs

from fedbus.clock import Clock, SystemClock
from fedbus.errors import FedbusError, UnavailableError
from fedbus.limits import DEFAULT, Limits
from fedbus_serve import metrics as routes
from fedbus_serve.admission import Admission
from fedbus_serve.answer import Answer, AsgiApp, Message, Receive, Scope, Send, json_answer
from fedbus_serve.buses import Buses, Connect
from fedbus_serve.cloudevents_http import EventReader
from fedbus_serve.control import control_app
from fedbus_serve.control_cache import ControlCache, ControlSource
from fedbus_serve.metrics import GatewayMetrics
from fedbus_serve.pages import Pages
from fedbus_serve.problems import MethodNotAllowedError, problem, unexpected
from fedbus_serve.publish import ClientGoneError, Publisher, SchemaCheck
from fedbus_serve.pull import Pulls
from fedbus_serve.region_bus import region_connector
from fedbus_serve.sse import EventStreams

_TOPICS, _EVENTS = "/v1/topics/", "/events"
log = logging.getLogger(__name__)


class Gateway:
    """One gateway process.

    ``control`` answers for the control plane, ``new_id`` names events made of plain data, ``connect(region)`` makes a
    bus when a region is first used (default: the client library, found through ``control``), ``registry`` is the schema
    registry's ASGI application, ``check_schema`` refuses data that does not fit its topic's schema.
    """

    def __init__(
        self, control: ControlSource, *, new_id: Callable[[], str], connect: Connect | None = None,
        registry: AsgiApp | None = None, check_schema: SchemaCheck | None = None, limits: Limits = DEFAULT,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self._clock = clock or SystemClock()
        self._metrics = GatewayMetrics()
        self._admission = Admission(limits)
        self._control = ControlCache(control, self._clock)
        self._buses = Buses(connect or region_connector(self._control))
        self._home = self._control.regions()[0]
        self._publisher = Publisher(
            self._buses, EventReader(limits, new_id), self._admission, self._metrics,
            limits=limits, clock=self._clock, check_schema=check_schema,
        )  # fmt: skip
        self._streams = EventStreams(self._buses, self._admission, self._metrics, limits=limits)
        self._registry = registry
        self._pulls = Pulls(self._buses, self._control, limits, self._clock)
        self._control_app = control_app(self._control, self._pulls, self._buses)
        self._pages = Pages()
        self._warning = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection of an ASGI server."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
            return
        if kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "no WebSocket here yet; use /v1/events"})
            return
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        if not path:  # the page's links are relative to its folder
            await Answer(307, b"text/plain", b"", ((b"location", f"{root}/".encode()),)).send(send)
            return
        watched = _Watched(send)
        try:
            await self._route(path, scope, receive, watched)
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the outermost edge: whatever failed, the caller gets a problem
            if watched.status:
                log.warning("%s broke off: %r", path, error)
                raise
            answer = problem(error, path) if isinstance(error, FedbusError) else unexpected(error, path)
            await answer.send(watched)
        self._metrics.answered(_route_name(path, scope["method"]), watched.status)

    def warn(self, text: str) -> None:
        """Something about this deployment its operator should know: in the log now, in ``/readyz`` from now on."""
        self._warning = text
        log.warning(text)

    async def close(self) -> None:
        """Close the buses and what is under way."""
        await self._control.close()
        await self._pulls.close()
        await self._buses.close()

    async def _route(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if path == "/v1/events":
            if method == "POST":
                await (await self._publisher.answer(scope, receive, None, self._region(scope), path)).send(send)
            elif method == "GET":
                await self._streams.serve(scope, receive, send, self._region(scope))
            else:
                await _not_allowed(method, path, "GET, POST").send(send)
        elif path.startswith(_TOPICS) and path.endswith(_EVENTS):
            if method == "POST":
                topic = path[len(_TOPICS) : -len(_EVENTS)]
                await (await self._publisher.answer(scope, receive, topic, self._region(scope), path)).send(send)
            else:
                await _not_allowed(method, path, "POST").send(send)
        elif self._registry is not None and (path == "/registry" or path.startswith("/registry/")):
            mounted = {**scope, "root_path": scope.get("root_path", "") + "/registry"}
            await self._registry(mounted, receive, send)
        elif method in ("GET", "HEAD") and (answer := await self._page(path, scope)) is not None:
            await answer.send(send, without_body=method == "HEAD")
        else:
            await self._control_app(scope, receive, send)

    def _region(self, scope: Scope) -> str:
        """The region asked for by ``?region=``, else the gateway's own."""
        query = scope["query_string"]
        if not query or b"region=" not in query:
            return self._home
        return self._control.check_region(parse_qs(query.decode("latin-1")).get("region", [self._home])[-1])

    async def _page(self, path: str, scope: Scope) -> Answer | None:
        if path == "/healthz":
            return json_answer(200, {"status": "ok"})
        if path == "/readyz":
            return await self._readiness()
        if path == "/metrics":
            await self._ask_regions()
            return self._metrics.text(self._admission.requests, self._admission.body_bytes, self._admission.streams)
        return self._pages.get(path, scope["headers"])

    async def _ask_regions(self) -> None:
        """Ask the regions for their ledgers and links; of one that was never heard there is no sample."""
        told = self._metrics.regions
        told.forget_topics()
        for region in self._control.regions():
            with contextlib.suppress(FedbusError):
                for found in (await self._control.read("regions", region)).value:
                    told.copies(region, found.get("ledgers", 0), found.get("under_replicated", 0))
                    told.waiting(region, found.get("geo_waiting_events", 0), found.get("geo_waiting_ms", 0))
                    told.links(region, found.get("links", ()), found.get("recovery_point_ms"))
                    told.dropped(region, found.get("peering_dropped", {}))
                told.groups(region, (await self._control.read("subscriptions", region)).value)

    async def _readiness(self) -> Answer:
        """Whether an event sent now would be taken: a bus of the home region that has an instance for it."""
        try:
            bus = await self._buses.get(self._home)
            taking = bus.taking_instances()
        except FedbusError as error:
            taking, reason = [], error.detail
        else:
            reason = "" if taking else f"no instance of region {self._home} takes events"
        body = {"status": "ready" if taking else "unavailable", "region": self._home, "instances": list(taking)}
        if reason or self._warning:
            body["detail"] = "; ".join(text for text in (reason, self._warning) if text)
        return json_answer(200 if taking else UnavailableError.http_status, body)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


class _Watched:
    """A ``send`` that remembers the status: whether the answer has begun, and what to count."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _route_name(path: str, method: str) -> str:
    if path == "/v1/events" or (path.startswith(_TOPICS) and path.endswith(_EVENTS)):
        return routes.PUBLISH if method == "POST" else routes.STREAM
    if path.startswith("/v1/"):
        return routes.CONTROL
    return routes.REGISTRY if path.startswith("/registry") else routes.PAGE


def _not_allowed(method: str, path: str, allowed: str) -> Answer:
    error = MethodNotAllowedError(f"{method} is not answered at {path}, only {allowed}")
    return problem(error, path, headers=((b"allow", allowed.encode()),))
