"""The schema registry over HTTP, in the shape of Confluent Schema Registry's REST API.

Mounted by the gateway under ``/registry`` (a complete ASGI application; any mount point works). Paths, bodies, status
and error codes are Confluent's, so that existing clients work with this base address; what exists there and not here
(Avro, Protobuf, references, rules, contexts, import mode, levels other than NONE) is refused with a code those clients
know and a message that says so. Decisions are ``fedbus.schema``'s. Store calls block, so each request crosses one
injected boundary to a thread, one at a time, and a bounded number waits.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

import anyio
import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fedbus.errors import FedbusError
from fedbus.schema.limits import REQUESTS_WAITING, SCHEMA_BYTES
from fedbus.schema.refusal import RegistryError
from fedbus.schema.registry import Registry
from fedbus.schema.state import SubjectVersion
from fedbus_serve.registry_calls import READS, WRITES, Call, Read, Write
from fedbus_serve.registry_media import answer_media, check_body_media, refused

ResultT = TypeVar("ResultT")
Boundary = Callable[[Callable[[], Any]], Awaitable[Any]]
OnChange = Callable[[Mapping[str, SubjectVersion]], None]

_STORE_FAILED = 50001  # Confluent's code for "the backend data store failed"
BODY_BYTES = 6 * SCHEMA_BYTES + 4096  # JSON escapes at most six bytes per character
_log = logging.getLogger(__name__)


async def in_thread(call: Callable[[], Any]) -> Any:
    """The usual boundary for blocking calls: a worker thread."""
    return await anyio.to_thread.run_sync(call)


def registry_app(registry: Registry, *, run: Boundary = in_thread, on_change: OnChange | None = None) -> ASGIApp:
    """The application. ``on_change`` is called in the event loop with the newest schemas after a change made here."""
    desk = _Desk(registry, run, on_change)
    routes = [Route(path, desk.reader(read), methods=["GET"]) for path, read in READS]
    routes += [Route(path, desk.writer(write), methods=[method]) for method, path, write in WRITES]
    handlers: Mapping[Any, Any] = {HTTPException: _http_refusal, FedbusError: _refusal, Exception: _our_bug}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return _EncodedPath(app)


class _Desk:
    """Turns calls into requests' handlers: one store access at a time, the rest waits, too many are refused."""

    def __init__(self, registry: Registry, run: Boundary, on_change: OnChange | None) -> None:
        self._registry = registry
        self._run = run
        self._on_change = on_change
        self._turn = anyio.Lock()

    async def _across(self, work: Callable[[], ResultT]) -> ResultT:
        if self._turn.statistics().tasks_waiting >= REQUESTS_WAITING:
            detail = f"{REQUESTS_WAITING} registry requests are waiting for the store; nothing was done, try again"
            raise RegistryError(detail, error_code=42901, retry_after_ms=1000)
        async with self._turn:
            result: ResultT = await self._run(work)
            return result

    def reader(self, read: Read) -> Callable[[Request], Awaitable[Response]]:
        """A handler that answers a question from the newest state."""

        async def handle(request: Request) -> Response:
            media = answer_media(request.headers.get("accept"))
            call = await _call(request)
            if read.immutable:
                try:
                    return _answer(read.ask(self._registry.known, call), media)
                except RegistryError:  # not seen yet: the store may know more
                    pass
            return _answer(await self._across(lambda: read.ask(self._registry.read(), call)), media)

        return handle

    def writer(self, write: Write) -> Callable[[Request], Awaitable[Response]]:
        """A handler that carries out a command (or a question that has a body)."""

        def work(call: Call) -> tuple[Any, dict[str, SubjectVersion] | None]:
            if write.command is None:
                return write.answer(self._registry.read(), call), None
            before = self._registry.known.revision
            result = self._registry.handle(write.command(call))
            state = self._registry.known
            return write.answer(result, call), state.latest() if state.revision != before else None

        async def handle(request: Request) -> Response:
            media = answer_media(request.headers.get("accept"))
            call = await _call(request)
            result, newest = await self._across(lambda: work(call))
            if newest is not None and self._on_change is not None:
                self._on_change(newest)
            return _answer(result, media)

        return handle


class _EncodedPath:
    """Routes on the path as it was sent: ``%2F`` in a subject is part of its name and separates nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw = scope.get("raw_path", b"").decode("latin-1")
            if unquote(raw) == scope["path"]:  # else somebody before us rewrote the path: trust that
                path = raw.rstrip("/")
                scope = {**scope, "path": path + "/" if path == scope.get("root_path", "") else path}
        await self._app(scope, receive, send)


async def _call(request: Request) -> Call:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise HTTPException(413, f"the body is longer than {BODY_BYTES} bytes")
    if body:
        check_body_media(request.headers.get("content-type"))
    path = {name: unquote(value) for name, value in request.path_params.items()}
    return Call(path, request.query_params, bytes(body))


def _answer(value: Any, media: str) -> Response:
    return Response(msgspec.json.encode(value), media_type=media)


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, FedbusError), error
    code = error.error_code if isinstance(error, RegistryError) else _STORE_FAILED
    headers = {"Retry-After": str(-(-error.retry_after_ms // 1000))} if error.retry_after_ms else None
    return refused(request, code // 100, code, error.detail, headers)


def _http_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), error
    headers = dict(error.headers) if error.headers else None
    return refused(request, error.status_code, error.status_code, f"HTTP {error.status_code} {error.detail}", headers)


def _our_bug(request: Request, error: Exception) -> Response:
    _log.exception("registry request failed: %s %s", request.method, request.url.path, exc_info=error)
    detail = "Internal error in the registry; the gateway's log has the details, please report it"
    return refused(request, 500, 500, detail, None)
