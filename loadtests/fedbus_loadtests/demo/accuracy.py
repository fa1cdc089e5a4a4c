"""Forecast against actual: how near the forecasts came to the load they were made for. Pure.

Of every slot that passed, the forecast counts that was the newest one a provisioning lead before it: the one that could
still be acted on. Left out is what lies behind an announced change that it could not have seen in the load yet, because
triggers raise what is provided and not the forecast. The scale is what the seasonal naive forecast (the same time a day
ago) would have been wrong by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fedbus.clock import NS_PER_S
from fedbus.control.forecast.protocol import Forecast
from fedbus.control.load import LoadSample
from fedbus.control.trigger import Trigger

DAY_NS = 86_400 * NS_PER_S
#: An announced change shows in the load within this time (as the forecast engine reckons).
SETTLING_SLOTS = 3


class Accuracy(msgspec.Struct, frozen=True):
    """Errors over the load (weighted percentage), over the naive ones, and the share of slots below the quantile."""

    slots: int
    wape_pct: float
    mase: float | None
    below_quantile_pct: float
    models: tuple[str, ...]


class _Pair(msgspec.Struct, frozen=True):
    """A slot and what was forecast for it; changes before ``seen_from_ns`` had shown in the load by then."""

    start_ns: int
    end_ns: int
    seen_from_ns: int
    actual: float
    predicted: float
    upper: float
    naive: float | None
    model: str


def forecast_accuracy(
    regions: Iterable[tuple[Sequence[Forecast], Sequence[LoadSample]]],
    start_ns: int,
    lead_ns: int,
    quantile: float,
    announced: Sequence[Trigger] = (),
) -> Accuracy | None:
    """All regions together, over the slots that start at ``start_ns`` or later; None if none can be compared."""
    changes = [moment for each in announced for moment in (each.start_ns, each.end_ns)]
    pairs = [
        pair
        for forecasts, history in regions
        for pair in _pairs(forecasts, history, lead_ns, quantile)
        if pair.start_ns >= start_ns and not any(pair.seen_from_ns <= change < pair.end_ns for change in changes)
    ]
    if not pairs:
        return None
    errors = [abs(pair.predicted - pair.actual) for pair in pairs]
    naive = [abs(pair.naive - pair.actual) for pair in pairs if pair.naive is not None]
    return Accuracy(
        slots=len(pairs),
        wape_pct=round(100 * sum(errors) / sum(pair.actual for pair in pairs), 1),
        mase=round(sum(errors) / sum(naive), 2) if len(naive) == len(pairs) and any(naive) else None,
        below_quantile_pct=round(100 * len([1 for pair in pairs if pair.actual <= pair.upper]) / len(pairs), 1),
        models=tuple(sorted({pair.model for pair in pairs})),
    )


def _pairs(
    forecasts: Sequence[Forecast], history: Sequence[LoadSample], lead_ns: int, quantile: float
) -> Iterable[_Pair]:
    made = sorted((f for f in forecasts if f.basis == "model"), key=lambda f: f.made_at_ns)
    past: Mapping[int, float] = {sample.time_ns: sample.events for sample in history}
    for sample in history:
        if sample.events <= 0:
            continue
        newest = next((f for f in reversed(made) if f.made_at_ns <= sample.time_ns - lead_ns), None)
        place = newest.slots_between(sample.time_ns, sample.time_ns + 1) if newest is not None else range(0)
        if newest is None or not place or newest.slot_start_ns(place[0]) != sample.time_ns:
            continue
        a_day_ago = past.get(sample.time_ns - DAY_NS)
        yield _Pair(
            sample.time_ns,
            newest.slot_start_ns(place[0] + 1),
            newest.made_at_ns - SETTLING_SLOTS * newest.slot_s * NS_PER_S,
            sample.events / newest.slot_s,
            newest.point_eps[place[0]],
            newest.quantiles[newest.level(quantile)][place[0]],
            a_day_ago / newest.slot_s if a_day_ago is not None else None,
            newest.model,
        )
