"""Violations: minutes in which a region's load was above what its instances in service hold, counted as they pass.

A minute is judged once it is measured; what was not measured counts for nothing. Totals are kept for people; the
minutes just judged are what the plan's assurance learns from, except those that it could not have made any better.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from statistics import fmean

import msgspec

from fedbus.control.load import NS_PER_S, LoadSample
from fedbus.control.wish import is_rate

MINUTE_NS = 60 * NS_PER_S


class Service(msgspec.Struct, frozen=True):
    """What was in service from ``at_ns`` on, in events/s and bytes/s at the SLA's latency.

    ``telling``: nothing but the need predicted decided so (no order by hand, no maximum, no missing metrics).
    """

    at_ns: int
    eps: float
    bps: float
    telling: bool = True


class Violations(msgspec.Struct, frozen=True):
    """Minutes judged up to ``until_ns`` and how many were violated: all, and the telling ones of the last round."""

    until_ns: int = 0
    minutes: int = 0
    violated: int = 0
    new_minutes: int = 0
    new_violated: int = 0

    @property
    def share(self) -> float:
        """Share of the minutes so far that were violated."""
        return self.violated / self.minutes if self.minutes else 0.0

    def judged(self, samples: Iterable[LoadSample], slot_s: int, services: Sequence[Service]) -> Violations:
        """After the slots measured since (any order, known ones among them); ``services`` oldest first.

        Slots shorter than a minute are judged by the minute (the first to the last of one must be there together);
        a longer one counts as its minutes, all alike. Slots before the first known service are left out.
        """
        minutes = violated = new_minutes = new_violated = 0
        until_ns = self.until_ns
        for start_ns, length_ns, eps, bps in _minutes(samples, slot_s, self.until_ns):
            until_ns = max(until_ns, start_ns + length_ns)
            service = _serving(services, start_ns, start_ns + length_ns)
            if service is None or not (is_rate(eps) and is_rate(bps)):
                continue
            count = max(1, length_ns // MINUTE_NS)
            broken = count * (eps > service.eps or bps > service.bps)
            minutes, violated = minutes + count, violated + broken
            if service.telling:
                new_minutes, new_violated = new_minutes + count, new_violated + broken
        return Violations(until_ns, self.minutes + minutes, self.violated + violated, new_minutes, new_violated)


def _minutes(samples: Iterable[LoadSample], slot_s: int, since_ns: int) -> list[tuple[int, int, float, float]]:
    """Start, length, events/s and bytes/s of each whole minute (or longer slot) from ``since_ns`` on."""
    length_ns = max(MINUTE_NS, slot_s * NS_PER_S)
    parts: dict[int, list[LoadSample]] = {}
    for sample in samples:
        start_ns = sample.time_ns - sample.time_ns % length_ns
        if start_ns >= since_ns:
            parts.setdefault(start_ns, []).append(sample)
    return [
        (start_ns, length_ns, fmean(s.events for s in found) / slot_s, fmean(s.bytes for s in found) / slot_s)
        for start_ns, found in sorted(parts.items())
        if len(found) * slot_s * NS_PER_S >= length_ns
    ]


def _serving(services: Sequence[Service], start_ns: int, end_ns: int) -> Service | None:
    """What was in service on average in [start_ns, end_ns), each word holding until the next; None before the first."""
    first = bisect_right(services, start_ns, key=lambda each: each.at_ns) - 1
    last = bisect_right(services, end_ns - 1, key=lambda each: each.at_ns)
    if first < 0:
        return None
    eps = bps = 0.0
    telling = True
    for place in range(first, last):
        begin_ns = max(start_ns, services[place].at_ns)
        until_ns = services[place + 1].at_ns if place + 1 < last else end_ns
        weight = (until_ns - begin_ns) / (end_ns - start_ns)
        eps, bps = eps + weight * services[place].eps, bps + weight * services[place].bps
        telling = telling and services[place].telling
    return Service(start_ns, eps, bps, telling)
