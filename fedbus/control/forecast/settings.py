"""Knobs of the forecast engine; light, because managers send them."""

from __future__ import annotations

from typing import Literal

import msgspec

ModelName = Literal["direct", "mstl", "arima", "profile", "seasonal_naive", "neural"]
#: All that need nothing beyond the extra ``cluster``, in the order of preference.
MODELS: tuple[ModelName, ...] = ("direct", "mstl", "arima", "profile", "seasonal_naive")


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Knobs of the engine, the same for every series (nothing is tuned per series)."""

    slot_s: int = 300
    models: tuple[ModelName, ...] = MODELS
    """Forecasters to run beside the reactive last resort; their weighted mean competes too."""
    history_days: int = 28
    scored_leads: int = 12
    """Leads whose errors are kept; beyond them the last one's bounds hold."""
    record_slots: int = 576
    """How many past forecasts the rolling error and the bounds look back on."""
    backtest_stride: int = 2
    lead_s: float = 300.0
    """Time provisioning takes: the lead at which forecasters are compared."""
    largest_mase: float = 1.2
    """The accuracy gate: a model worse than this × the naive scale is not believed."""
    switch_gain: float = 0.95
    """Another model takes over only if its error is below this share of the present one's."""
    largest_growth: float = 3.0
    """Clamp: no forecast beyond this × the largest load seen."""
    refit_every_s: float = 86_400.0
    slow_refit_every_s: float = 7 * 86_400.0
    """The same for models whose fit takes seconds."""
    maximum_horizon_slots: int = 576
