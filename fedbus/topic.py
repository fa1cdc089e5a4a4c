"""Topics and filters: names of streams of events, and patterns over them.

A topic is dotted ASCII (``orders.eu.created``). In a filter ``*`` stands for exactly one token and ``>``, last, for one
or more. Assumes nothing; what a topic's policy is, is left to the options.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedbus.errors import InvalidTopicError

MAX_TOPIC_BYTES = 255
MAX_TOKENS = 16
RESERVED_PREFIX = "_fedbus."
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_TOPIC = re.compile(rf"{_TOKEN.pattern}(?:\.{_TOKEN.pattern}){{0,{MAX_TOKENS - 1}}}")
_RULE = (
    f"use 1 to {MAX_TOKENS} tokens of A-Z a-z 0-9 _ - joined by dots, {MAX_TOPIC_BYTES} bytes at most, "
    "for example orders.eu.created"
)


def is_topic(topic: str) -> bool:
    """Whether this is a well-formed topic (reserved ones included)."""
    return len(topic) <= MAX_TOPIC_BYTES and _TOPIC.fullmatch(topic) is not None


def check_topic(topic: str) -> str:
    """Return the topic, or raise :class:`InvalidTopicError` if users may not publish to it."""
    if not is_topic(topic):
        raise InvalidTopicError(f"{topic[:80]!r} is not a topic: {_RULE}")
    if topic.startswith(RESERVED_PREFIX):
        raise InvalidTopicError(f"{topic!r}: topics under {RESERVED_PREFIX} are reserved for the bus itself")
    return topic


def check_filter(pattern: str) -> str:
    """Return the filter, or raise :class:`InvalidTopicError` saying what is wrong with it."""
    tokens = pattern.split(".")
    if not pattern or len(pattern) > MAX_TOPIC_BYTES or len(tokens) > MAX_TOKENS:
        raise InvalidTopicError(
            f"{pattern[:80]!r} is not a filter: {_RULE}; * for one token, > at the end for the rest"
        )
    for place, token in enumerate(tokens):
        if token == ">" and place != len(tokens) - 1:
            raise InvalidTopicError(f"{pattern!r} is not a filter: > may only be the last token")
        if token not in ("*", ">") and _TOKEN.fullmatch(token) is None:
            raise InvalidTopicError(f"{pattern!r} is not a filter: token {token!r} at place {place + 1}; {_RULE}")
    return pattern


def covers(pattern: str, other: str) -> bool:
    """Whether ``pattern`` takes every topic that the filter ``other`` takes (in doubt: no)."""
    ours, theirs = pattern.split("."), other.split(".")
    if ours[0] in ("*", ">") and theirs[0] not in ("*", ">") and f"{theirs[0]}." == RESERVED_PREFIX:
        return False
    for place, token in enumerate(ours):
        if token == ">":
            return len(theirs) > place
        if place >= len(theirs) or theirs[place] == ">" or token not in ("*", theirs[place]):
            return False
    return len(ours) == len(theirs)


def may_overlap(pattern: str, other: str) -> bool:
    """Whether some topic may be taken by both filters (in doubt: yes)."""
    ours, theirs = pattern.split("."), other.split(".")
    for mine, its in zip(ours, theirs, strict=False):
        if ">" in (mine, its):
            return True
        if "*" not in (mine, its) and mine != its:
            return False
    return len(ours) == len(theirs)


def specificity(pattern: str) -> tuple[int, int, int]:
    """Order of precedence among filters: literal tokens, no ``>``, no ``*``; the greater wins."""
    tokens = pattern.split(".")
    open_ended = tokens[-1] == ">"
    stars = tokens.count("*")
    return len(tokens) - open_ended - stars, -open_ended, -stars


def _expression(pattern: str) -> str:
    tokens = check_filter(pattern).split(".")
    parts = ["[^.]+" if token == "*" else ".+" if token == ">" else re.escape(token) for token in tokens]
    expression = r"\.".join(parts)
    if tokens[0] in ("*", ">"):  # a wildcard at the front does not reach the bus's own topics
        expression = rf"(?!{re.escape(RESERVED_PREFIX)}){expression}"
    return expression


class FilterSet:
    """The union of some filters; ``matches`` remembers its answers for up to ``remembered`` topics.

    There is one per subscription: remembering more would cost memory per topic *and* subscription, to save the
    microsecond that matching takes, once per topic and batch.
    """

    __slots__ = ("_answers", "_expression", "patterns", "remembered")

    def __init__(self, patterns: Iterable[str], *, remembered: int = 2048) -> None:
        self.patterns = tuple(sorted(set(patterns)))
        self.remembered = remembered
        self._expression = (
            re.compile("|".join(f"(?:{_expression(p)})" for p in self.patterns)) if self.patterns else None
        )
        self._answers: dict[str, bool] = {}

    def matches(self, topic: str) -> bool:
        """Whether any of the filters takes this topic."""
        answer = self._answers.get(topic)
        if answer is None:
            answer = self._expression is not None and self._expression.fullmatch(topic) is not None
            if len(self._answers) >= self.remembered:
                self._answers.clear()
            self._answers[topic] = answer
        return answer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FilterSet) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __repr__(self) -> str:
        return f"FilterSet({list(self.patterns)!r})"
