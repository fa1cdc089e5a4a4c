"""Decisions: why an event went where it went, kept in as few words as a hot path can spare, told in a sentence.

The answer to "why did my event go there": the rows say what every decision rests on, the sentences what was decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedbus.routing.standing import Standing

KEPT = 256  # newest decisions
BETTER, DRAWN, TRIED, PROBE, AVOIDED, ONLY = "better", "drawn", "tried", "probe", "avoided", "only"

#: (how, chosen, the other one drawn, and the scores of both in ms)
Decision = tuple[str, "Standing", "Standing", float, float]


def reason(decision: Decision) -> str:
    """The decision in a sentence."""
    how, chosen, other, chosen_ms, other_ms = decision
    name, against = chosen.route.instance, other.route.instance
    if how == BETTER:
        return f"{name}, the better of two drawn: {chosen_ms:.1f} ms against {other_ms:.1f} ms of {against}"
    if how == DRAWN:
        equal = f"its {chosen_ms:.1f} ms and the {other_ms:.1f} ms of {against} are as good as equal"
        return f"{name}, with no more in flight: {equal}"
    if how == TRIED:
        worse = f"its {chosen_ms:.1f} ms are worse than the {other_ms:.1f} ms of {against}, but they are of publishes"
        return f"{name}, tried: {worse}, and without one now and then nobody would know that it is quicker again"
    if how == PROBE:
        return f"{name}, as a probe: it was ejected, and is let in again once it proves quick"
    if how == AVOIDED:
        return f"{name}, {chosen_ms:.1f} ms, because others refuse at the moment or are being avoided"
    return f"{name}, the only one of its region that takes events"


def shares(decisions: Iterable[Decision]) -> dict[str, float]:
    """Share of the keyless batches decided lately, by instance."""
    counts = Counter(chosen.route.instance for _, chosen, *_ in decisions)
    total = sum(counts.values())
    return {instance: count / total for instance, count in counts.items()}


def row(standing: Standing, slots: int, share: float) -> dict[str, Any]:
    """What every decision about an instance rests on."""
    ejection, route = standing.ejection, standing.route
    return {
        "region": standing.region,
        "instance": route.instance,
        "endpoint": route.endpoint,
        "state": route.state,
        "weight": route.weight,
        "rtt_ms": round(standing.trip.ms, 3),
        "publish_ms": round(standing.store.ms, 3) if standing.store.ms else None,
        "measured": standing.measured,
        "queue_share": round(standing.queue, 3),
        "in_flight": standing.in_flight,
        "suspect": standing.suspect,
        "ejected": "" if ejection.state == "in" else f"{ejection.state}: {ejection.reason}",
        "score_ms": round(standing.score, 3),
        "share": round(share, 3),
        "slots": slots,
    }
