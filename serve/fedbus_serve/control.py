"""The control API: ``/v1/bootstrap`` and the resources of the control plane, and their OpenAPI description.

Each resource answers ``{"items": […], "next": …, "stale": …, "stale_regions": […], "as_of": …}``. Items are the views
of :mod:`fedbus_serve.views`; ``stale`` says that a region's manager is away and its items are the last ones heard.
Writing is in ``control_changes.py``.
"""

from __future__ import annotations

import asyncio
import ipaddress
from base64 import b64encode
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import AwareDatetime, Field, TypeAdapter
from starlette.exceptions import HTTPException

from fedbus.client.bootstrap import Bootstrap
from fedbus.errors import FedbusError, NotFoundError, UnavailableError
from fedbus.event import format_time_ns
from fedbus_serve import views
from fedbus_serve.answer import Answer
from fedbus_serve.buses import Buses
from fedbus_serve.control_cache import ControlCache, Network, Reading, Resource
from fedbus_serve.control_changes import add_changes
from fedbus_serve.openapi import DATA_PATHS
from fedbus_serve.problems import MethodNotAllowedError, problem, unexpected
from fedbus_serve.pull import Pulls, add_pulls
from fedbus_serve.regions import add_regions
from fedbus_serve.subscriptions import add_subscriptions, at_home
from fedbus_serve.topics import add_topics
from fedbus_serve.triggers import add_triggers, of_the_federation

PAGE, MOST = 1000, 10_000
ViewT = TypeVar("ViewT", bound=views.View)


class Page(views.View, Generic[ViewT]):
    """A resource's items and how far they can be believed."""

    items: list[ViewT]
    next: str | None = Field(None, description="Pass as `after` for the following items.")
    stale: bool = Field(description="Whether a manager is away and some items are old.")
    stale_regions: list[str]
    as_of: AwareDatetime | None = Field(description="When the oldest part was heard.")


class _Kind(NamedTuple):
    """A resource: its view, its items' key, whether each region has its own part, and whether the key orders it."""

    name: Resource
    view: type[views.View]
    key: str
    per_region: bool = True
    ordered: bool = True


KINDS = (
    _Kind("regions", views.RegionView, "region", ordered=False),
    _Kind("instances", views.InstanceView, "instance", ordered=False),
    _Kind("ledgers", views.LedgerView, "ledger"),
    _Kind("forecasts", views.ForecastView, "region", ordered=False),
    _Kind("directives", views.DirectiveView, "id", ordered=False),
    _Kind("routing", views.RoutingView, "region", ordered=False),
    _Kind("slas", views.SlaView, "filter", per_region=False),
    _Kind("triggers", views.TriggerView, "id"),
    _Kind("subscriptions", views.SubscriptionView, "group"),
)


def control_app(cache: ControlCache, pulls: Pulls, buses: Buses) -> FastAPI:
    """The application; mounted by the gateway, it knows only its own paths."""
    app = FastAPI(
        title="fedbus gateway",
        summary="Publish and receive CloudEvents; look into the federation.",
        version="1",
        docs_url=None,  # ours shows the same without loading scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(FedbusError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_bug)

    @app.get("/v1/bootstrap", summary="Where the instances are, for callers of the data socket")
    async def bootstrap(request: Request) -> Response:
        reading = await cache.bootstrap(network_of(request))
        headers = {"fedbus-stale": "true"} if reading.stale else None
        return Response(encode_bootstrap(reading.value), media_type="application/json", headers=headers)

    for kind in KINDS:
        app.add_api_route(
            f"/v1/{kind.name}", _reader(cache, kind, buses), methods=["GET"],
            response_model=Page[kind.view], summary=f"The {kind.name} of the federation",  # type: ignore[name-defined]
        )  # fmt: skip

    @app.get("/v1/routing/keys/{key}", response_model=views.KeyRouteView, summary="Where the events of a key go")
    async def key_route(
        key: str, region: Annotated[str | None, Query(description="Where they are published.")] = None
    ) -> dict[str, Any]:
        home = cache.regions()[0] if region is None else cache.check_region(region)
        return (await buses.get(home)).routing(key)

    add_changes(app, cache)
    add_triggers(app, cache)
    add_regions(app, cache)
    add_topics(app, cache)
    add_subscriptions(app, cache)
    add_pulls(app, pulls)
    _describe_data_paths(app)
    return app


def _reader(cache: ControlCache, kind: _Kind, buses: Buses) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The endpoint of a resource."""
    adapter: TypeAdapter[list[views.View]] = TypeAdapter(list[kind.view])  # type: ignore[name-defined]

    async def read(
        region: Annotated[str | None, Query(description="Only this region's.")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST, description="At most so many items.")] = PAGE,
        after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    ) -> dict[str, Any]:
        asked = (cache.check_region(region),) if region is not None else cache.regions()
        if kind.per_region:
            parts = await asyncio.gather(*(cache.read(kind.name, name) for name in asked), return_exceptions=True)
        else:
            asked, parts = await _first_answer(cache, kind.name, asked)
        page = _page(kind, adapter, dict(zip(asked, parts, strict=True)), limit, after)
        if kind.name == "routing":  # what the tables say, then what this gateway makes of them
            own = [each for each in buses.routing() if region in (None, each["region"])]
            page["items"] += adapter.validate_python(own)
        return page

    return read


async def _first_answer(
    cache: ControlCache, resource: Resource, regions: tuple[str, ...]
) -> tuple[tuple[str, ...], list[Reading | BaseException]]:
    """A federation-wide resource from the first region that knows it, rather a fresh answer than a stale one."""
    second: tuple[tuple[str, ...], list[Reading | BaseException]] | None = None
    for region in regions:
        try:
            reading = await cache.read(resource, region)
        except FedbusError as error:
            second = second or ((region,), [error])
            continue
        if not reading.stale:
            return (region,), [reading]
        second = ((region,), [reading])
    return second or ((), [])


def _page(
    kind: _Kind, adapter: TypeAdapter[list[views.View]], parts: dict[str, Reading | BaseException], limit: int,
    after: str | None,
) -> dict[str, Any]:  # fmt: skip
    for part in parts.values():
        if isinstance(part, BaseException) and not isinstance(part, FedbusError):
            raise part
    readings = {name: part for name, part in parts.items() if isinstance(part, Reading)}
    if parts and not readings:
        raise UnavailableError(f"no manager answers for {kind.name} at the moment; try again", retry_after_ms=1000)
    items = [item for part in readings.values() for item in adapter.validate_python(part.value, from_attributes=True)]
    if kind.name == "subscriptions":
        items = [*at_home(item for item in items if isinstance(item, views.SubscriptionView))]
    if kind.name == "triggers":
        items = [*of_the_federation(item for item in items if isinstance(item, views.TriggerView))]
    if kind.ordered:
        items.sort(key=lambda item: str(getattr(item, kind.key)))
        if after is not None:
            items = [item for item in items if getattr(item, kind.key) > after]
    stale = [name for name, part in parts.items() if not isinstance(part, Reading) or part.stale]
    oldest_ns = min((part.read_at_ns for part in readings.values()), default=None)
    return {
        "items": items[:limit],
        "next": getattr(items[limit - 1], kind.key) if kind.ordered and len(items) > limit else None,
        "stale": bool(stale),
        "stale_regions": stale,
        "as_of": format_time_ns(oldest_ns) if oldest_ns is not None else None,
    }


def encode_bootstrap(found: Bootstrap) -> bytes:
    """The body of ``GET /v1/bootstrap``; ``table`` is base64 of what instances push as well."""
    return msgspec.json.encode(
        {
            "federation": found.table.federation,
            "region": found.region,
            "version": found.table.version,
            "table": b64encode(found.table.encode()).decode(),
            "limits": found.limits,
            "schemas": found.schemas,
            "policies": found.policies,
            "gateways": found.gateways,
        }
    )


def network_of(request: Request) -> Network:
    """Whether the caller sits in a private network; the address a proxy noted outweighs the connection's."""
    forwarded = request.headers.get("x-forwarded-for", "").split(",")[0].strip()
    text = forwarded or (request.client.host if request.client is not None else "")
    try:
        return "internal" if not text or ipaddress.ip_address(text).is_private else "external"
    except ValueError:
        return "internal"


def _describe_data_paths(app: FastAPI) -> None:
    """Add the raw routes, which FastAPI does not see, to the OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document["paths"] = DATA_PATHS | document["paths"]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _response(answer: Answer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, media_type=answer.content_type.decode())


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FedbusError)
    return _response(problem(error, request.url.path))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == MethodNotAllowedError.http_status:
        return _response(problem(MethodNotAllowedError(f"{request.method} is not answered at {path}"), path))
    return _response(problem(NotFoundError(f"there is nothing at {path}; /docs lists what there is"), path))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{"detail": item["msg"], "where": ".".join(map(str, item["loc"]))} for item in error.errors()]
    detail = "; ".join(f"{item['where']}: {item['detail']}" for item in found)
    return _response(problem(InvalidRequestError(detail), request.url.path, errors=found))


async def _on_bug(request: Request, error: Exception) -> Response:
    return _response(unexpected(error, request.url.path))


class InvalidRequestError(FedbusError):
    """A query parameter or control body that cannot be read."""

    code = "invalid_request"
    culprit = "caller"
    http_status = 400
