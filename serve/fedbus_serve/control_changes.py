"""What operators can change over HTTP: SLAs, drain and restart of an instance; triggers have a file of their own.

SLAs and triggers are the federation's, while each region keeps a store of its own: they are written to every region,
and the answer names those that did not take part; the same request again completes it. The rest is one region's.
A page of another site cannot call these: a browser says where it comes from.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from fedbus.control.sla import DEFAULT_AVAILABILITY, DEFAULT_MAX_LATENCY_MS, Sla
from fedbus.errors import FedbusError, NotFoundError, UnavailableError
from fedbus.topic import check_filter
from fedbus_serve.control_cache import ControlCache

NAME = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"


class ForeignPageError(FedbusError):
    """A change asked for by a web page of another origin."""

    code = "forbidden"
    culprit = "caller"
    http_status = 403


class Body(BaseModel):
    """Base of the control bodies: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SlaBody(Body):
    """What is promised for the topics of a filter."""

    max_latency_ms: int = Field(DEFAULT_MAX_LATENCY_MS, gt=0, description="Longest time from publishing to delivery.")
    availability: float = Field(DEFAULT_AVAILABILITY, gt=0, lt=1, description="Share of time in which it is kept.")


class Spread(BaseModel):
    """What came of a change of the whole federation."""

    regions: list[str] = Field(description="Regions in which it holds now.")
    failed: dict[str, str] = Field(description="Regions that did not take it, and why: repeat the request.")


class Accepted(BaseModel):
    """An order under way."""

    instance: str
    directive: str | None = Field(None, description="Its id in /v1/directives.")
    ledger: str | None = Field(None, description="The ledger the instance wrote until now.")


def own_page(request: Request) -> None:
    """Refuse what a page of another origin sends; programs send no Origin."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise ForeignPageError(f"a page of {origin[:200]} may not change this federation")


Name = Annotated[str, Path(pattern=NAME)]


def add_changes(app: FastAPI, cache: ControlCache) -> None:
    """Add the routes."""
    guard = [Depends(own_page)]

    @app.put("/v1/slas/{filter}", response_model=Spread, dependencies=guard, summary="Promise an SLA")
    async def put_sla(filter: str, body: SlaBody) -> Spread:
        sla = Sla(check_filter(filter), body.max_latency_ms, body.availability)
        return await everywhere(cache, "put_sla", sla.filter, sla)

    @app.delete("/v1/slas/{filter}", response_model=Spread, dependencies=guard, summary="Take an SLA back")
    async def delete_sla(filter: str) -> Spread:
        return await everywhere(cache, "delete_sla", check_filter(filter))

    @app.post(
        "/v1/instances/{region}/{id}/{order}", response_model=Accepted, status_code=202, dependencies=guard,
        summary="Drain an instance for good, or restart it",
    )  # fmt: skip
    async def instruct(region: str, id: Name, order: Literal["drain", "restart"]) -> dict[str, Any]:
        return await cache.change(cache.check_region(region), order, id)


async def everywhere(cache: ControlCache, change: str, name: str, value: Any = None) -> Spread:
    """A change in every region: done, if one took it and no other refused it; what is gone already need not go."""
    regions = cache.regions()
    answers = await asyncio.gather(
        *(cache.change(region, change, name, value) for region in regions), return_exceptions=True
    )
    outcomes = dict(zip(regions, answers, strict=True))
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, FedbusError):
            raise answer
    absent = [region for region, answer in outcomes.items() if isinstance(answer, NotFoundError)]
    failures = {r: error for r, error in outcomes.items() if isinstance(error, FedbusError) and r not in absent}
    if len(absent) + len(failures) < len(regions):
        held = [region for region in regions if region not in failures]
        return Spread(regions=held, failed={region: error.detail for region, error in failures.items()})
    if refusals := [error for error in failures.values() if not error.retryable]:
        raise refusals[0]
    if failures:
        raise UnavailableError(f"no region took it: {next(iter(failures.values())).detail}", retry_after_ms=1000)
    raise NotFoundError(f"no region has {name!r}")
