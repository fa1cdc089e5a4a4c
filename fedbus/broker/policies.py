"""Topic policies as the data plane holds them: for a topic the rule of the most specific filter that takes it.

Pure and light: instances get them from their manager (versioned), clients from the bootstrap; the federation file's
side of it is ``fedbus/options/topics.py``. A rule is not merged with less specific ones: what it does not say has its
default.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Literal

import msgspec

from fedbus.errors import ConflictError, NotFoundError, PinnedTopicError
from fedbus.topic import RESERVED_PREFIX, covers, may_overlap, specificity

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
NO_LIMIT = 0
REMEMBERED = 16_384  # topics whose rule is remembered; beyond that they are looked up again


class TopicRule(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the topics that ``filter`` takes.

    ``retention_ms``: events are kept at least this long; ``retention_bytes``: and no longer once newer closed ledgers
    that hold topics of this filter add up to this (0: no bound); ``dedup_window_ms``: events with the same source and
    id are stored once within it (0: not looked at); ``schema_subject``, ``validation``: see ``schema/subjects.py``.

    ``forward``: which other regions pull these topics: ``interest``, those in which somebody wants them, and each of
    ``regions``; ``all``, every one; ``pinned``: they are stored in ``regions`` alone, and offered to no other.
    ``durability``: acknowledged (and dispatched) when the ``region`` has it, or only when a second region of the
    ``federation`` has it too: one of ``regions``, or any other if that is empty (protocol rule 20).
    """

    filter: str
    retention_ms: int = WEEK_MS
    retention_bytes: int = NO_LIMIT
    dedup_window_ms: int = 0
    schema_subject: str | None = None
    validation: Literal["registered", "schema", "none"] = "registered"
    forward: Literal["interest", "all", "pinned"] = "interest"
    regions: tuple[str, ...] = ()
    durability: Literal["region", "federation"] = "region"

    def contradiction(self) -> str:
        """What in it cannot be done, or nothing."""
        if self.forward == "pinned" and not self.regions:
            return "a pinned topic needs regions in which it is stored"
        if self.forward == "pinned" and self.durability == "federation" and len(set(self.regions)) < 2:  # noqa: PLR2004
            return "durability federation needs a second region, and the topic is pinned to one"
        return ""


DEFAULT_RULE = TopicRule(filter=">")


class Policies:
    """The rules in force. ``version`` is their store's (0: none were heard yet).

    ``federated``: whether any topic has to be in a second region before it counts.
    """

    def __init__(self, rules: Iterable[TopicRule] = (), version: int = 0, *, auto_create: bool = True) -> None:
        self.version = version
        self.auto_create = auto_create
        self.rules: tuple[TopicRule, ...] = ()
        self._patterns: list[tuple[TopicRule, list[str]]] = []
        self._found: dict[str, TopicRule | None] = {}
        self._set(rules)

    def apply(self, version: int, rules: Iterable[TopicRule], *, auto_create: bool = True) -> bool:
        """Take newer rules over; older ones are ignored. Returns whether they were newer."""
        if version <= self.version:
            return False
        self.version, self.auto_create = version, auto_create
        self._set(rules)
        return True

    def _set(self, rules: Iterable[TopicRule]) -> None:
        self.rules = tuple(in_precedence(rules))
        self.pinned = any(rule.forward == "pinned" for rule in self.rules)
        self.federated = any(rule.durability == "federation" for rule in self.rules)
        self._patterns = [(rule, rule.filter.split(".")) for rule in self.rules]
        self._found.clear()

    def rule(self, topic: str) -> TopicRule:
        """The rule that holds for a topic; the defaults if no filter takes it."""
        return self._find(topic) or DEFAULT_RULE

    def dedup_window_ms(self, topic: str) -> int:
        """For how long the same source and id are one event; 0: they are not looked at."""
        return self.rule(topic).dedup_window_ms if self.rules else 0

    def stored_in(self, topic: str, region: str) -> bool:
        """Whether events of this topic may be stored in a region: not if it is pinned to others."""
        if not self.pinned:
            return True
        rule = self.rule(topic)
        return rule.forward != "pinned" or region in rule.regions

    def is_pinned(self, topic: str) -> bool:
        """Whether a topic is stored in some regions alone."""
        return self.pinned and self.rule(topic).forward == "pinned"

    def check_stored_in(self, topic: str, region: str) -> None:
        """Raise :class:`PinnedTopicError` if it may not."""
        if not self.stored_in(topic, region):
            rule = self.rule(topic)
            raise PinnedTopicError(
                f"topic {topic} is stored in {', '.join(rule.regions)} alone (policy of {rule.filter}), not in "
                f"{region}: publish there"
            )

    def in_second_region(self, topic: str) -> bool:
        """Whether events of this topic count only once a second region has them (protocol rule 20)."""
        return self.federated and self.rule(topic).durability == "federation"

    def check_exists(self, topic: str) -> None:
        """Raise :class:`NotFoundError` if topics are not created by their first event and no policy names this one."""
        if not self.auto_create and self._find(topic) is None:
            raise NotFoundError(
                f"topic {topic} does not exist, and topics.auto_create is off: make it with `fedbus topic set {topic}`"
            )

    def _find(self, topic: str) -> TopicRule | None:
        if topic in self._found:
            return self._found[topic]
        tokens = topic.split(".")
        found = next((rule for rule, pattern in self._patterns if _takes(pattern, tokens)), None)
        if len(self._found) >= REMEMBERED:
            self._found.clear()
        self._found[topic] = found
        return found

    def concerning(self, patterns: Iterable[str] | None) -> list[TopicRule]:
        """Every rule that holds for a topic of these (topics, or filters that stand for many; ``None``: anything)."""
        found: dict[str, TopicRule] = {}
        for pattern in (">",) if patterns is None else patterns:
            if "*" not in pattern and ">" not in pattern:
                rule = self.rule(pattern)
                found[rule.filter] = rule
                continue
            rules = [rule for rule in self.rules if may_overlap(rule.filter, pattern)]
            found |= {rule.filter: rule for rule in rules}
            if not any(covers(rule.filter, pattern) for rule in rules):
                found.setdefault(DEFAULT_RULE.filter, DEFAULT_RULE)
        return list(found.values())


def _takes(pattern: list[str], tokens: list[str]) -> bool:
    if pattern[0] in ("*", ">") and f"{tokens[0]}." == RESERVED_PREFIX and len(tokens) > 1:
        return False
    for place, token in enumerate(pattern):
        if token == ">":
            return len(tokens) > place
        if place >= len(tokens) or token not in ("*", tokens[place]):
            return False
    return len(tokens) == len(pattern)


def in_precedence(rules: Iterable[TopicRule]) -> list[TopicRule]:
    """The most specific first."""
    return sorted(rules, key=lambda rule: specificity(rule.filter), reverse=True)


def ties(filters: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of filters between which nothing decides for some topic."""
    return [
        (one, other)
        for one, other in combinations(filters, 2)
        if specificity(one) == specificity(other) and may_overlap(one, other)
    ]


def check_decidable(new: str, present: Iterable[str]) -> None:
    """Raise :class:`ConflictError` if a policy for ``new`` would tie with one that is there; its own is replaced."""
    for other in present:
        if other != new and specificity(other) == specificity(new) and may_overlap(other, new):
            raise ConflictError(
                f"policies {new} and {other} are equally specific and some topic fits both: nothing would decide "
                f"between them. Make {new} more (or less) specific, or take the policy of {other} back"
            )
