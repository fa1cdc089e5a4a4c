"""Topic policies: which filter's rules hold for a topic. The most specific filter wins, a tie is an error.

Specific means: more literal tokens; then fewer ``>``; then fewer ``*``. A policy is not merged with less specific ones:
what it does not say has its default. The file's policies are a beginning: they go into the regions' stores, where they
can be changed (``fedbus topic set``); what decides for a topic is in ``broker/policies.py``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from fedbus.broker.policies import NO_LIMIT, WEEK_MS, TopicRule, ties
from fedbus.errors import InvalidTopicError
from fedbus.options.quantity import DurationMs, SizeBytes
from fedbus.options.section import Section
from fedbus.topic import check_filter


def _is_filter(pattern: str) -> str:
    try:
        return check_filter(pattern)
    except InvalidTopicError as error:
        raise ValueError(error.detail) from None


Filter = Annotated[str, AfterValidator(_is_filter)]


class TopicPolicy(Section):
    """What holds for the topics that a filter takes."""

    filter: Filter = Field(description="Topics it is about: `orders.>`, `orders.*.created`.")
    retention_ms: DurationMs = Field(
        WEEK_MS,
        gt=0,
        alias="retention",
        description="Events are kept at least this long. Whole closed ledgers are dropped, once this has passed for "
        "every topic in them.",
    )
    retention_bytes: SizeBytes | None = Field(
        None,
        gt=0,
        description="And no longer, once newer closed ledgers of the region that hold topics of this filter add up to "
        "this size (one copy counted; the ledgers being written come on top). None: kept by age alone.",
    )
    dedup_window_ms: DurationMs | None = Field(
        None,
        gt=0,
        alias="dedup_window",
        description="Events with the same CloudEvents source and id are stored once within this time. None: not looked "
        "at.",
    )
    schema_subject: str | None = Field(None, min_length=1, description="Subject in the schema registry.")
    validation: Literal["registered", "schema", "none"] = Field(
        "registered",
        description="When data has to fit the subject's newest schema: `registered`, as soon as there is one; "
        "`schema`, always (without one nothing can be published); `none`, never.",
    )

    forward: Literal["interest", "all", "pinned"] = Field(
        "interest",
        description="Which other regions get these events: `interest`, those in which somebody wants them, and each of "
        "`regions`; `all`, every one; `pinned`, they are stored in `regions` alone.",
    )
    regions: tuple[str, ...] = Field((), description="The regions that `forward` and `durability` are about.")
    durability: Literal["region", "federation"] = Field(
        "region",
        description="An event is acknowledged and dispatched when its `region` has it, or `federation`: only when a "
        "second region has it too, one of `regions` (none given: any). While none of them can be reached publishing is "
        "refused (503, retryable).",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if found := self.rule().contradiction():
            raise ValueError(found)
        return self

    def rule(self) -> TopicRule:
        """As the data plane holds it."""
        return TopicRule(
            filter=self.filter,
            retention_ms=self.retention_ms,
            retention_bytes=self.retention_bytes or NO_LIMIT,
            dedup_window_ms=self.dedup_window_ms or 0,
            schema_subject=self.schema_subject,
            validation=self.validation,
            forward=self.forward,
            regions=self.regions,
            durability=self.durability,
        )


class TopicsOptions(Section):
    """How topics come to be, and what holds for them."""

    auto_create: bool = Field(True, description="A topic is created by the first event published to it.")
    policies: tuple[TopicPolicy, ...] = Field((), description="Policies by filter; the most specific wins.")

    @field_validator("policies")
    @classmethod
    def _decidable(cls, policies: tuple[TopicPolicy, ...]) -> tuple[TopicPolicy, ...]:
        if found := ties(policy.filter for policy in policies):
            one, other = found[0]
            raise ValueError(f"filters {one} and {other} are equally specific and some topic fits both")
        return policies

    def rules(self) -> list[TopicRule]:
        """As the data plane holds them."""
        return [policy.rule() for policy in self.policies]
