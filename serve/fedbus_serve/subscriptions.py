"""``/v1/subscriptions``: durable groups, made, changed, moved and deleted at their home region's manager.

A change answers when every living instance of that region has recorded it. A group belongs to the region in which it
was made (``?region=`` where several have one of that name; the gateway's own for a new one).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query
from pydantic import Field, model_validator

from fedbus.broker.protocol import GroupOptions, Start
from fedbus.client.start import parse_start
from fedbus.errors import ConflictError, FedbusError, InvalidPositionError, NotFoundError, UnavailableError
from fedbus.topic import check_filter
from fedbus_serve import views
from fedbus_serve.control_cache import ControlCache
from fedbus_serve.control_changes import Body, own_page

LONGEST_MS = 7 * 86_400_000
MOST_FILTERS = 64
_ABSENT = "there is no group"

Group = Annotated[str, Path(min_length=1, max_length=256)]
Region = Annotated[str | None, Query(description="Its home region; needed where several have one of that name.")]


class NotOfferedError(FedbusError):
    """Part of the API that this version does not offer."""

    code = "not_offered"
    culprit = "caller"
    http_status = 501


class SubscriptionBody(Body):
    """A durable group. Filter and start stay as they are once it exists; what else is left out has its default."""

    filter: str | list[str] = Field(description="One filter or several; an event that any of them takes is delivered.")
    start: str | None = Field(None, description="earliest (default), latest, a time, a position or a cursor.")
    ack_deadline_ms: int = Field(30_000, ge=100, le=LONGEST_MS, description="Unsettled for so long: it comes again.")
    max_deliveries: int = Field(0, ge=0, description="Then it goes to the dead-letter topic; 0: it comes without end.")
    dead_letter_topic: str = Field("", description="Empty: `_fedbus.dead_letters.` and the group.")
    max_in_flight: int = Field(
        0, ge=0, description="Events a member may hold unsettled; 0: as many as the limits allow."
    )
    backoff_min_ms: int = Field(100, ge=0, le=LONGEST_MS, description="Wait before the second delivery …")
    backoff_max_ms: int = Field(60_000, ge=0, le=LONGEST_MS, description="… doubled with each, up to this.")
    paused: bool = Field(False, description="Nothing is delivered.")
    push: dict[str, Any] | None = Field(None, description="Not offered yet.")

    @model_validator(mode="before")
    @classmethod
    def _filters_too(cls, given: Any) -> Any:
        """``filters``, as the answers call it, is as good."""
        if isinstance(given, dict) and "filters" in given and "filter" not in given:
            given = {"filter": given["filters"]} | {name: value for name, value in given.items() if name != "filters"}
        return given

    def wanted(self) -> dict[str, Any]:
        """As the registry takes it (``region_groups.py``); raises a typed error on what cannot be."""
        if self.push is not None:
            raise NotOfferedError("push is not offered by this version: pull over HTTP, or subscribe over ZeroMQ")
        filters = sorted(
            {check_filter(each) for each in ([self.filter] if isinstance(self.filter, str) else self.filter)}
        )
        if not 0 < len(filters) <= MOST_FILTERS:
            raise ConflictError(f"{len(filters)} filters: a group has 1 to {MOST_FILTERS}")
        options = GroupOptions(
            self.ack_deadline_ms, self.max_deliveries, self.dead_letter_topic, self.backoff_min_ms, self.backoff_max_ms,
            self.max_in_flight, self.paused,
        )  # fmt: skip
        start: Start | None = parse_start(self.start) if self.start is not None else None
        return {"filters": filters, "start": start, "options": options}


class SeekBody(Body):
    """Where a group goes on: one of these."""

    start: str | None = Field(None, description="earliest, latest, a time, a position or a cursor.")
    time: str | None = Field(None, description="RFC 3339.")
    position: str | None = Field(None, description="region/instance/epoch:offset, included.")

    def target(self) -> Start:
        """Raises :class:`InvalidPositionError`."""
        given = [each for each in (self.start, self.time, self.position) if each is not None]
        if len(given) != 1:
            raise InvalidPositionError("say exactly one of start, time and position")
        return parse_start(given[0])


class Changed(views.View):
    """A change that every living instance of the region has recorded."""

    group: str
    region: str


def add_subscriptions(app: FastAPI, cache: ControlCache) -> None:
    """Add the routes."""
    guard = [Depends(own_page)]

    @app.get(
        "/v1/subscriptions/{group}", response_model=views.SubscriptionDetail, summary="A group, instance by instance"
    )
    async def show(group: Group, region: Region = None) -> dict[str, Any]:
        return (await find_group(cache, group, region))[1]

    @app.put("/v1/subscriptions/{group}", response_model=Changed, dependencies=guard, summary="Make or change a group")
    async def put(group: Group, body: SubscriptionBody, region: Region = None) -> dict[str, Any]:
        wanted = body.wanted()
        home = await _home(cache, group, region)
        return await cache.change(home, "put_group", group, wanted)

    @app.delete("/v1/subscriptions/{group}", response_model=Changed, dependencies=guard, summary="Delete a group")
    async def delete(group: Group, region: Region = None) -> dict[str, Any]:
        home, _ = await find_group(cache, group, region)
        return await cache.change(home, "delete_group", group)

    @app.post("/v1/subscriptions/{group}/seek", response_model=Changed, dependencies=guard, summary="Move a group")
    async def seek(group: Group, body: SeekBody, region: Region = None) -> dict[str, Any]:
        target = body.target()
        home, _ = await find_group(cache, group, region)
        return await cache.change(home, "seek_group", group, target)


async def _home(cache: ControlCache, group: str, region: str | None) -> str:
    """Where the group is, else where it would be made."""
    if region is not None:
        return cache.check_region(region)
    try:
        return (await find_group(cache, group, None))[0]
    except NotFoundError:
        return cache.regions()[0]


async def find_group(cache: ControlCache, group: str, region: str | None) -> tuple[str, dict[str, Any]]:
    """Its home region and what there is to say of it.

    Raises :class:`NotFoundError`; :class:`ConflictError` if several regions have one of that name;
    :class:`UnavailableError` if nobody who answers has it and somebody does not answer.
    """
    asked = (cache.check_region(region),) if region is not None else cache.regions()
    answers = await asyncio.gather(*(cache.query(each, "group", group) for each in asked), return_exceptions=True)
    found: dict[str, dict[str, Any]] = {}
    away: list[str] = []
    for each, answer in zip(asked, answers, strict=True):
        if isinstance(answer, NotFoundError):
            continue
        if isinstance(answer, FedbusError):
            away.append(each)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found[each] = answer
    if len(found) > 1:
        raise ConflictError(f"regions {', '.join(found)} each have a group {group!r}: say which with ?region=")
    if found:
        return next(iter(found.items()))
    if away:
        raise UnavailableError(
            f"whether there is a group {group!r} is not known: the manager of {', '.join(away)} does not answer",
            retry_after_ms=1000,
        )
    raise NotFoundError(f"{_ABSENT} {group!r} in {', '.join(asked)}")
