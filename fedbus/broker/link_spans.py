"""Spans: which stretches of an origin ledger were scanned for a filter, and where a pull of several filters begins.

A span is ``begun`` → ``scanned``: everything the filter takes in between was forwarded. A filter that was wanted from
the middle on, and later from the beginning, has two, until the first has reached the second. Records and reports hold
them as text → offset: the filter for a span from the beginning, else ``filter@begun``.

A pull is a *turn*: it begins at the lowest offset that is missing, and goes as far as the same spans answer; so an
event that crossed for one filter does not cross again for another, and no span answers for what it never had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fedbus.broker.protocol import LinkFilter


def span_key(pattern: str, begun: int) -> str:
    """How a span is named in records."""
    return f"{pattern}@{begun}" if begun else pattern


def pattern_of(key: str) -> str:
    """The filter of a span."""
    return key.partition("@")[0]


def begun_of(key: str) -> int:
    """Where a span begins."""
    return int(key.partition("@")[2] or 0)


def span_at(spans: Mapping[str, int], pattern: str, start: int) -> str | None:
    """The span of this filter that holds (or ends at) this offset."""
    found = [key for key, scanned in spans.items() if pattern_of(key) == pattern and begun_of(key) <= start <= scanned]
    return max(found, key=lambda key: spans[key], default=None)


def reached(spans: Mapping[str, int], want: LinkFilter) -> int:
    """Up to where all that a filter takes from where it begins (``want.scanned_to``) on has come."""
    key = span_at(spans, want.pattern, want.scanned_to)
    return want.scanned_to if key is None else spans[key]


def joined(spans: dict[str, int]) -> dict[str, int]:
    """Spans of one filter that have met are one."""
    if not any("@" in key for key in spans):
        return spans
    found: dict[str, int] = {}
    for key in sorted(spans, key=lambda each: (pattern_of(each), begun_of(each))):
        before = span_at(found, pattern_of(key), begun_of(key))
        if before is None:
            found[key] = spans[key]
        else:
            found[before] = max(found[before], spans[key])
    return found


class Turn(msgspec.Struct, frozen=True):
    """One pull's worth.

    ``spans``: those that it carries on, with how far they are; ``others``: spans that only say what has come;
    ``until``: where it ends, because other spans begin there (0: nowhere).
    """

    spans: dict[str, int]
    others: dict[str, int]
    until: int

    @property
    def start(self) -> int:
        """Where it begins."""
        return min(self.spans.values(), default=0)


def turn_of(spans: Mapping[str, int], wants: Sequence[LinkFilter]) -> Turn:
    """The next pull for these filters, each from its ``scanned_to`` on."""
    keys = {want.pattern: span_at(spans, want.pattern, want.scanned_to) for want in wants}
    named = {want.pattern: keys[want.pattern] or span_key(want.pattern, want.scanned_to) for want in wants}
    places = {key: spans.get(key, begun_of(key)) for key in named.values()}
    start = min(places.values(), default=0)
    carried = {key: at for key, at in places.items() if begun_of(key) <= start}
    others = {key: at for key, at in spans.items() if key not in carried and begun_of(key) <= start < at}
    return Turn(carried, others, _next(start, [*places, *spans]))


def _next(start: int, keys: Iterable[str]) -> int:
    return min((begun for key in keys if (begun := begun_of(key)) > start), default=0)
