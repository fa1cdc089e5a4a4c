"""The report of a bench: figures of each system, ratios of ours over theirs, and what has to be said beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import msgspec

from fedbus_loadtests.bench.system import About, Sample

QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)
LESS_IS_BETTER = ("_ms", "_us", "_mib")


class Report(msgspec.Struct, kw_only=True):
    """As ``--json`` prints it. Ratios are ours over theirs."""

    bench: str
    params: dict[str, Any]
    fedbus: dict[str, Any]
    peers: dict[str, dict[str, Any]] = {}
    ratio: dict[str, float] = {}
    more: dict[str, Any] = {}  # ratios of further figures, and notes: they stand beside ``ratio``

    def to_dict(self) -> dict[str, Any]:
        """One flat object."""
        fields = {name: getattr(self, name) for name in ("bench", "params", "fedbus", "peers", "ratio")}
        return {**fields, **self.more}


def quantile(ordered: Sequence[float], share: float) -> float:
    """By nearest rank, of values in order."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figures(samples: Sequence[Sample], about: About) -> dict[str, Any]:
    """Medians over the rounds, and each round's rate; latencies with p50 and p99 of every round, and all together."""
    found: dict[str, Any] = {
        "events_per_s": round(median(sample.events_per_s for sample in samples), 1),
        "events": samples[-1].events,
        "rounds": [round(sample.events_per_s, 1) for sample in samples],
    }
    for prefix, lists in (
        ("", [sample.acknowledged_ms for sample in samples]),
        ("delivered_", [sample.delivered_ms for sample in samples]),
    ):
        ordered = [sorted(values) for values in lists if values]
        if ordered:
            found[f"{prefix}p50_ms"] = round(median(quantile(values, 0.5) for values in ordered), 3)
            found[f"{prefix}p99_ms"] = round(median(quantile(values, 0.99) for values in ordered), 3)
            together = sorted(value for values in ordered for value in values)
            found[f"{prefix}cdf"] = [[share, round(quantile(together, share), 3)] for share in QUANTILES]
    return found | about.to_dict()


def ratios(ours: Mapping[str, Any], peers: Mapping[str, Mapping[str, Any]], figure: str) -> dict[str, float]:
    """Ours over theirs, of one figure, for every peer that has it."""
    return {
        name: round(ours[figure] / peer[figure], 4)
        for name, peer in peers.items()
        if figure in ours and peer.get(figure)
    }


def less_is_better(figure: str) -> bool:
    """Of latencies and memory, less is better; of rates, more."""
    return figure.endswith(LESS_IS_BETTER)
