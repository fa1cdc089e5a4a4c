"""The topics of a segment or ledger as a short list of filters: what retention has to know without reading events.

Beyond :data:`TOPICS_LISTED` topics are collapsed to their first token (``orders.>``), and if that does not help nothing
is said (``None``): then nobody may conclude anything.
"""

from __future__ import annotations

from collections.abc import Iterable

TOPICS_LISTED = 256


def listed(topics: set[str]) -> set[str] | None:
    """The topics, or filters that match all of them, or ``None``; a topic may be a filter made here before."""
    if len(topics) <= TOPICS_LISTED:
        return topics
    collapsed = {first if not dot else f"{first}.>" for first, dot, _ in (topic.partition(".") for topic in topics)}
    return collapsed if len(collapsed) <= TOPICS_LISTED else None


def merged(parts: Iterable[set[str] | None]) -> tuple[str, ...] | None:
    """All of several lists, sorted; ``None`` if one of them says nothing."""
    union: set[str] = set()
    for part in parts:
        more = None if part is None else listed(union | part)
        if more is None:
            return None
        union = more
    return tuple(sorted(union))
