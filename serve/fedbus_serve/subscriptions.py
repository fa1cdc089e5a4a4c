"""``/v1/subscriptions``: durable groups, made, changed, moved and deleted at their home region's manager.

A change answers when every living instance of that region has recorded it and the other regions that answer know it.
A group's name is the federation's; its home is the region in which it was made (``home``, else ``?region=``, else the
gateway's own) until it is moved. Of groups that are each region's own (``scope: region``) ``?region=`` says which.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, Literal

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
Region = Annotated[str | None, Query(description="The region to ask; needed where several have a group of that name.")]


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
    home: str | None = Field(None, description="The region where it is to be at home; default: the one that is asked.")
    scope: Literal["federation", "region"] | None = Field(
        None, description="region: it is this region's own, others may have one of that name; default: federation."
    )

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
        where = {name: value for name, value in (("home", self.home), ("scope", self.scope)) if value is not None}
        return {"filters": filters, "start": start, "options": options} | where


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


class HomeBody(Body):
    """Where a group is to be at home."""

    region: str = Field(min_length=1, max_length=64, description="A region that answers.")


class Changed(views.View):
    """A change that every living instance of the region has recorded."""

    group: str
    region: str = Field(description="Its home.")
    detail: str = Field("", description="What there is to say of it.")


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
        if body.home is not None:
            cache.check_region(body.home)
        return await cache.change(await _asked(cache, group, region), "put_group", group, wanted)

    @app.delete("/v1/subscriptions/{group}", response_model=Changed, dependencies=guard, summary="Delete a group")
    async def delete(group: Group, region: Region = None) -> dict[str, Any]:
        asked, _ = await find_group(cache, group, region)
        return await cache.change(asked, "delete_group", group)

    @app.post("/v1/subscriptions/{group}/seek", response_model=Changed, dependencies=guard, summary="Go on elsewhere")
    async def seek(group: Group, body: SeekBody, region: Region = None) -> dict[str, Any]:
        target = body.target()
        asked, _ = await find_group(cache, group, region)
        return await cache.change(asked, "seek_group", group, target)

    @app.put("/v1/subscriptions/{group}/home", response_model=Changed, dependencies=guard, summary="Move its home")
    async def move(group: Group, body: HomeBody, region: Region = None) -> dict[str, Any]:
        asked, _ = await find_group(cache, group, region)
        return await cache.change(asked, "move_group", group, body.region)


async def _asked(cache: ControlCache, group: str, region: str | None) -> str:
    """Where the group is, else where it would be made."""
    if region is not None:
        return cache.check_region(region)
    try:
        return (await find_group(cache, group, None))[0]
    except NotFoundError:
        return cache.regions()[0]


async def find_group(cache: ControlCache, group: str, region: str | None) -> tuple[str, dict[str, Any]]:
    """The region whose manager is to be asked about it (its home, if that answers), and what there is to say of it.

    Raises :class:`NotFoundError`; :class:`ConflictError` if several regions have one of their own of that name;
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
    known = {each: views.SubscriptionView.model_validate(view, from_attributes=True) for each, view in found.items()}
    chosen = at_home(known.values())
    if len(chosen) > 1:
        raise ConflictError(f"regions {', '.join(found)} each have a group {group!r}: say which with ?region=")
    if chosen:
        teller = next(each for each, view in known.items() if view is chosen[0])
        return teller, found[teller]
    if away:
        raise UnavailableError(
            f"whether there is a group {group!r} is not known: the manager of {', '.join(away)} does not answer",
            retry_after_ms=1000,
        )
    raise NotFoundError(f"{_ABSENT} {group!r} in {', '.join(asked)}")


def at_home(told: Iterable[views.SubscriptionView]) -> list[views.SubscriptionView]:
    """Of what several regions tell of the federation's groups what counts: the word of the home with the highest term.

    Groups that are each region's own, and those that are in conflict, are all there.
    """
    chosen: dict[tuple[object, ...], views.SubscriptionView] = {}
    for view in told:
        own = view.region if view.scope == "region" else ""
        key = (view.group, own, tuple(view.filters))
        if key not in chosen or _weight(view) > _weight(chosen[key]):
            chosen[key] = view
    return list(chosen.values())


def _weight(view: views.SubscriptionView) -> tuple[bool, int]:
    return view.told_by == view.region, view.term
