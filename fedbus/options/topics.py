"""Topic policies: which filter's rules hold for a topic. The most specific filter wins, a tie is an error.

Specific means: more literal tokens; then fewer ``>``; then fewer ``*``. A policy is not merged with less specific ones:
what it does not say has its default.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from fedbus.errors import ConfigurationError, InvalidTopicError
from fedbus.options.quantity import DurationMs
from fedbus.options.section import Section
from fedbus.topic import FilterSet, check_filter

WEEK_MS = 7 * 86_400_000


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
        WEEK_MS, gt=0, alias="retention", description="Events are kept at least this long."
    )
    schema_subject: str | None = Field(None, min_length=1, description="Subject in the schema registry.")
    validation: Literal["registered", "schema", "none"] = Field(
        "registered",
        description="When data has to fit the subject's newest schema: `registered`, as soon as there is one; "
        "`schema`, always (without one nothing can be published); `none`, never.",
    )


def specificity(pattern: str) -> tuple[int, int, int]:
    """Order of precedence: literal tokens, no ``>``, no ``*``; the greater wins."""
    tokens = pattern.split(".")
    open_ended = tokens[-1] == ">"
    stars = tokens.count("*")
    return len(tokens) - open_ended - stars, -open_ended, -stars


def overlap(one: str, other: str) -> bool:
    """Whether some topic fits both filters."""
    left, right = one.split("."), other.split(".")
    for mine, theirs in zip(left, right, strict=False):
        if ">" in (mine, theirs):
            return True
        if "*" not in (mine, theirs) and mine != theirs:
            return False
    return len(left) == len(right)


def ties(policies: Iterable[TopicPolicy]) -> list[tuple[str, str]]:
    """Pairs of filters between which nothing decides for some topic."""
    return [
        (one.filter, other.filter)
        for one, other in combinations(policies, 2)
        if specificity(one.filter) == specificity(other.filter) and overlap(one.filter, other.filter)
    ]


def policy_for(topic: str, policies: Iterable[TopicPolicy]) -> TopicPolicy:
    """The most specific policy whose filter takes the topic, else the defaults; ConfigurationError on a tie."""
    fitting = sorted(
        (policy for policy in policies if FilterSet([policy.filter]).matches(topic)),
        key=lambda policy: specificity(policy.filter),
        reverse=True,
    )
    if not fitting:
        return TopicPolicy(filter=">")
    tied = [policy.filter for policy in fitting if specificity(policy.filter) == specificity(fitting[0].filter)]
    if len(tied) > 1:
        raise ConfigurationError(
            f"topic {topic}: the policies {' and '.join(tied)} are equally specific; make one of them more specific"
        )
    return fitting[0]


class TopicsOptions(Section):
    """How topics come to be, and what holds for them."""

    auto_create: bool = Field(True, description="A topic is created by the first event published to it.")
    policies: tuple[TopicPolicy, ...] = Field((), description="Policies by filter; the most specific wins.")

    @field_validator("policies")
    @classmethod
    def _decidable(cls, policies: tuple[TopicPolicy, ...]) -> tuple[TopicPolicy, ...]:
        if found := ties(policies):
            one, other = found[0]
            raise ValueError(f"filters {one} and {other} are equally specific and some topic fits both")
        return policies

    def policy_for(self, topic: str) -> TopicPolicy:
        """The policy that holds for a topic."""
        return policy_for(topic, self.policies)
