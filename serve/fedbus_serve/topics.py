"""``/v1/topics``: policies of topics, what holds for a topic, and the topics that events came for.

Policies are the federation's and written to every region (see ``control_changes.py``). The list joins policies with the
topics the instances know of: those are asked page by page, so that ten thousand topics cost nobody anything until
somebody looks.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, Self

import msgspec
from fastapi import Depends, FastAPI, Query
from pydantic import AwareDatetime, Field, model_validator

from fedbus.broker.policies import NO_LIMIT, WEEK_MS, Policies, TopicRule
from fedbus.errors import FedbusError, UnavailableError
from fedbus.event import format_time_ns
from fedbus.quantity import LARGEST
from fedbus.topic import check_filter, covers
from fedbus_serve import views
from fedbus_serve.control_cache import ControlCache
from fedbus_serve.control_changes import Body, Spread, everywhere, own_page

PAGE, MOST = 1000, 10_000


class TopicBody(Body):
    """What holds for the topics of a filter; what is left out has its default."""

    retention_ms: int = Field(WEEK_MS, gt=0, le=LARGEST, description="Events are kept at least this long.")
    retention_bytes: int | None = Field(
        None, gt=0, le=LARGEST, description="And no longer than newer closed ledgers with these topics add up to this."
    )
    dedup_window_ms: int | None = Field(
        None, gt=0, le=LARGEST, description="The same source and id are stored once within this time."
    )
    schema_subject: str | None = Field(None, min_length=1, max_length=256, description="Subject in the registry.")
    validation: Literal["registered", "schema", "none"] = Field("registered", description="When data has to fit it.")

    forward: Literal["interest", "all", "pinned"] = Field(
        "interest", description="To regions where somebody wants them, to all, or stored in `regions` alone."
    )
    regions: list[str] = Field(default_factory=list, max_length=256, description="What the other two are about.")
    durability: Literal["region", "federation"] = Field(
        "region", description="Acknowledged when the region has it, or only when one of `regions` (none: any) has too."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if found := self.rule(">").contradiction():
            raise ValueError(found)
        return self

    def rule(self, pattern: str) -> TopicRule:
        """As the data plane holds it."""
        return TopicRule(
            filter=pattern,
            retention_ms=self.retention_ms,
            retention_bytes=self.retention_bytes or NO_LIMIT,
            dedup_window_ms=self.dedup_window_ms or 0,
            schema_subject=self.schema_subject,
            validation=self.validation,
            forward=self.forward,
            regions=tuple(self.regions),
            durability=self.durability,
        )


class TopicsPage(views.View):
    """Policies and topics, by name."""

    items: list[views.TopicView]
    next: str | None = Field(None, description="Pass as `after` for the following items.")
    stale: bool = Field(description="Whether a manager is away: topics that only its region knows are missing.")
    stale_regions: list[str]
    as_of: AwareDatetime = Field(description="When the policies were heard.")


def add_topics(app: FastAPI, cache: ControlCache) -> None:
    """Add the routes."""
    guard = [Depends(own_page)]

    @app.get("/v1/topics", response_model=TopicsPage, summary="Policies and topics of the federation")
    async def list_topics(
        kind: Annotated[Literal["all", "policies", "topics"], Query(description="Only these.")] = "all",
        limit: Annotated[int, Query(ge=1, le=MOST, description="At most so many items.")] = PAGE,
        after: Annotated[str, Query(description="`next` of the page before.")] = "",
        region: Annotated[str | None, Query(description="Only topics that this region knows.")] = None,
    ) -> dict[str, Any]:
        asked = (cache.check_region(region),) if region is not None else cache.regions()
        policies, away, read_at_ns = await _policies(cache)
        names = {rule.filter for rule in policies.rules if rule.filter > after} if kind != "topics" else set()
        if kind != "policies":
            seen = await _seen(cache, asked, after, limit + 1)
            away = sorted({*away, *(name for name, topics in seen.items() if topics is None)})
            names.update(topic for topics in seen.values() for topic in topics or ())
        page = sorted(names)
        return {
            "items": [view_of(name, policies) for name in page[:limit]],
            "next": page[limit - 1] if len(page) > limit else None,
            "stale": bool(away),
            "stale_regions": away,
            "as_of": format_time_ns(read_at_ns),
        }

    @app.get("/v1/topics/{topic}", response_model=views.TopicView, summary="What holds for a topic or filter")
    async def show_topic(topic: str) -> dict[str, Any]:
        policies, _, _ = await _policies(cache)
        return view_of(check_filter(topic), policies)

    @app.put("/v1/topics/{topic}", response_model=Spread, dependencies=guard, summary="Set a policy")
    async def put_topic(topic: str, body: TopicBody) -> Spread:
        for region in body.regions:
            cache.check_region(region)
        return await everywhere(cache, "put_topic", check_filter(topic), body.rule(topic))

    @app.delete("/v1/topics/{topic}", response_model=Spread, dependencies=guard, summary="Take a policy back")
    async def delete_topic(topic: str) -> Spread:
        return await everywhere(cache, "delete_topic", check_filter(topic))


def view_of(name: str, policies: Policies) -> dict[str, Any]:
    """What holds for a topic, or for a filter that no more specific policy decides in part."""
    rule = _rule_of(name, policies)
    held = any(known is rule for known in policies.rules)
    return {
        "topic": name,
        "policy": rule.filter if held else None,
        "retention_ms": rule.retention_ms,
        "retention_bytes": rule.retention_bytes or None,
        "dedup_window_ms": rule.dedup_window_ms or None,
        "schema_subject": rule.schema_subject,
        "validation": rule.validation,
        "forward": rule.forward,
        "regions": list(rule.regions),
        "durability": rule.durability,
    }


def _rule_of(name: str, policies: Policies) -> TopicRule:
    own = next((rule for rule in policies.rules if rule.filter == name), None)
    if own is not None or ("*" not in name and ">" not in name):
        return own or policies.rule(name)
    return next((rule for rule in policies.rules if covers(rule.filter, name)), TopicRule(filter=">"))


async def _policies(cache: ControlCache) -> tuple[Policies, list[str], int]:
    """Those of the first region that answers, the regions before it, which are away, and when they were heard."""
    away: list[str] = []
    for region in cache.regions():
        try:
            reading = await cache.read("topics", region)
        except FedbusError:
            away.append(region)
            continue
        return Policies(_rule(view) for view in reading.value), away, reading.read_at_ns
    raise UnavailableError("no manager answers for topics at the moment; try again", retry_after_ms=1000)


def _rule(view: Any) -> TopicRule:
    body = views.TopicView.model_validate(view, from_attributes=True)
    rule = TopicRule(
        filter=body.topic,
        retention_bytes=body.retention_bytes or NO_LIMIT,
        dedup_window_ms=body.dedup_window_ms or 0,
        schema_subject=body.schema_subject,
        validation=body.validation,
        forward=body.forward,
        regions=tuple(body.regions),
        durability=body.durability,
    )
    return rule if body.retention_ms is None else msgspec.structs.replace(rule, retention_ms=body.retention_ms)


async def _seen(cache: ControlCache, regions: tuple[str, ...], after: str, limit: int) -> dict[str, list[str] | None]:
    """Per region the topics known there, ``None`` if it does not answer."""
    asked = {"after": after, "limit": limit}
    answers = await asyncio.gather(
        *(cache.query(region, "topics_seen", asked) for region in regions), return_exceptions=True
    )
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, FedbusError):
            raise answer
    return {
        region: None if isinstance(answer, BaseException) else answer
        for region, answer in zip(regions, answers, strict=True)
    }
