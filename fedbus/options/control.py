"""Sections of the control plane: promises (SLAs), forecasting, the manager, health.

Defaults of knobs are those of the control core; here they get names, units and checks, and are turned into its types.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from fedbus.control.forecast.settings import MODELS, ModelName
from fedbus.control.health import HealthSettings
from fedbus.control.sla import DEFAULT_AVAILABILITY, DEFAULT_MAX_LATENCY_MS, Sla
from fedbus.control.view import PlanSettings
from fedbus.options.quantity import DurationMs
from fedbus.options.section import Section
from fedbus.options.topics import Filter

MINUTE_MS = 60_000
DAY_MS = 86_400_000
#: Resource metrics in the shortest slots: they explain what has just happened.
METRICS_KEPT_NS = 2 * DAY_MS * 1_000_000
_PLAN = PlanSettings()
_HEALTH = HealthSettings()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class SlaOptions(Section):
    """What is promised for the topics of a filter."""

    filter: Filter = Field(description="Topics it is about.")
    latency_ms: DurationMs = Field(
        DEFAULT_MAX_LATENCY_MS, gt=0, alias="latency", description="Longest time from publishing to delivery."
    )
    availability: float = Field(
        DEFAULT_AVAILABILITY,
        gt=0,
        lt=1,
        description="Share of time in which it is kept; implies the forecast quantile.",
    )

    def sla(self) -> Sla:
        """As the control plane knows it."""
        return Sla(self.filter, self.latency_ms, self.availability)


class ForecastingOptions(Section):
    """How load is predicted."""

    enabled: bool = Field(True, description="Without forecasts a region scales by its live load alone.")
    slot_ms: DurationMs = Field(
        MINUTE_MS, ge=1000, alias="slot", description="Load history is kept in slots this long."
    )
    step_ms: DurationMs = Field(
        5 * MINUTE_MS,
        ge=1000,
        alias="step",
        description="Forecasts are made in steps this long: a multiple of the slot.",
    )
    horizon_ms: DurationMs = Field(120 * MINUTE_MS, gt=0, alias="horizon", description="How far a forecast reaches.")
    lead_ms: DurationMs = Field(
        MINUTE_MS, gt=0, alias="lead", description="From ordering an instance to its service: how far ahead to act."
    )
    interval_ms: DurationMs = Field(5 * MINUTE_MS, gt=0, alias="interval", description="A new forecast this often.")
    history_ms: DurationMs = Field(28 * DAY_MS, gt=0, alias="history", description="Past load the models look at.")
    keep_ms: DurationMs = Field(
        35 * DAY_MS, gt=0, alias="keep", description="Past load the store keeps, slot by slot …"
    )
    keep_5m_ms: DurationMs = Field(90 * DAY_MS, gt=0, alias="keep_5m", description="… rolled up to five minutes …")
    keep_1h_ms: DurationMs = Field(400 * DAY_MS, gt=0, alias="keep_1h", description="… to hours …")
    keep_1d_ms: DurationMs = Field(3650 * DAY_MS, gt=0, alias="keep_1d", description="… and to days.")
    models: tuple[ModelName, ...] = Field(
        MODELS,
        min_length=1,
        description="Models that compete, with their weighted mean and the reactive fallback; neural needs an extra.",
    )
    quantile: float | None = Field(
        None, ge=0.5, lt=1, description="Forecast quantile to provide for; none: what the SLAs imply."
    )

    @model_validator(mode="after")
    def _ordered(self) -> ForecastingOptions:
        if not self.slot_ms <= self.lead_ms <= self.horizon_ms <= self.history_ms <= self.keep_ms:
            raise ValueError("slot ≤ lead ≤ horizon ≤ history ≤ keep does not hold")
        if self.slot_ms % 1000 or DAY_MS % self.slot_ms:
            raise ValueError("slot must be a whole number of seconds and divide the day, such as 30s, 1m or 5m")
        if self.step_ms % self.slot_ms or DAY_MS % self.step_ms:
            raise ValueError("step must be a multiple of slot and divide the day, such as 5m")
        return self

    @property
    def slot_s(self) -> int:
        """Length of a slot in seconds."""
        return self.slot_ms // 1000

    @property
    def kept_ns(self) -> dict[int, int]:
        """For how long the store keeps load, by the length of its slots in seconds; coarser ones as long at least."""
        kept, longest_ms = {}, 0
        lengths = (
            (self.slot_s, self.keep_ms),
            (300, self.keep_5m_ms),
            (3_600, self.keep_1h_ms),
            (86_400, self.keep_1d_ms),
        )
        for slot_s, keep_ms in lengths:
            longest_ms = max(longest_ms, keep_ms)
            if slot_s >= self.slot_s:
                kept[slot_s] = longest_ms * 1_000_000
        return kept

    @property
    def metrics_kept_ns(self) -> dict[int, int]:
        """The same of resource metrics, of which there are many: each length as long as the finer one's load."""
        kept, finer_ns = {}, METRICS_KEPT_NS
        for slot_s, load_ns in self.kept_ns.items():
            kept[slot_s], finer_ns = finer_ns, load_ns
        return kept


class ManagerOptions(Section):
    """The federation manager of each region."""

    tick_interval_ms: DurationMs = Field(5000, ge=10, alias="tick_interval", description="Wait between two ticks.")
    drain_deadline_ms: DurationMs = Field(
        30_000, gt=0, alias="drain_deadline", description="A draining instance delivers its backlog within this time."
    )
    target_utilization: float | None = Field(
        None, gt=0, le=1, description="How full an instance is planned to be; none: what the SLAs imply."
    )
    spare_instances: int = Field(
        _PLAN.spare_instances,
        ge=0,
        le=100,
        description="Instances beyond the need, so that losing that many leaves enough.",
    )
    scale_in_window_ms: DurationMs = Field(
        _ms(_PLAN.scale_in_window_s),
        ge=0,
        alias="scale_in_window",
        description="Never scale below the largest need of this past.",
    )
    scale_in_pause_ms: DurationMs = Field(
        _ms(_PLAN.scale_in_pause_s), ge=0, alias="scale_in_pause", description="Wait between two scale-ins."
    )
    scale_out_pause_ms: DurationMs = Field(
        _ms(_PLAN.scale_out_pause_s),
        ge=0,
        alias="scale_out_pause",
        description="Wait before the same need is ordered again; a larger one does not wait.",
    )
    repair_after_ms: DurationMs = Field(
        _ms(_PLAN.repair_after_s),
        ge=0,
        alias="repair_after",
        description="An unreachable instance is waited for so long.",
    )
    brake_share: float = Field(
        _PLAN.brake_share, gt=0, le=1, description="This share of a region gone at once: hold, the view may be broken …"
    )
    brake_ms: DurationMs = Field(_ms(_PLAN.brake_s), ge=0, alias="brake", description="… for this long.")
    calibrate: bool = Field(
        True, description="Learn from load, latency and CPU what instances of a size hold; else as declared."
    )
    choose_size: bool = Field(
        _PLAN.choose_size, description="Order the size that costs least; else always `instances.size` of the region."
    )
    neighbour_reserve: bool = Field(
        _PLAN.neighbour_reserve,
        description="Have room for the share of the largest neighbour's load, should that region be lost (N−1).",
    )

    def plan_settings(self) -> PlanSettings:
        """As the plan knows them."""
        return PlanSettings(
            spare_instances=self.spare_instances,
            scale_in_window_s=self.scale_in_window_ms / 1000,
            scale_in_pause_s=self.scale_in_pause_ms / 1000,
            scale_out_pause_s=self.scale_out_pause_ms / 1000,
            repair_after_s=self.repair_after_ms / 1000,
            brake_share=self.brake_share,
            brake_s=self.brake_ms / 1000,
            choose_size=self.choose_size,
            neighbour_reserve=self.neighbour_reserve,
        )


class HealthOptions(Section):
    """When the health monitor calls an instance degraded, unreachable or dead."""

    probe_interval_ms: DurationMs = Field(
        _ms(_HEALTH.probe_interval_s),
        ge=10,
        alias="probe_interval",
        description="Wait between two probes; how long a silence is suspicious follows from how regular answers were.",
    )
    slow_ms: DurationMs = Field(
        _ms(_HEALTH.slow_ms / 1000), gt=0, alias="slow", description="Answers slower than this: degraded."
    )
    full_share: float = Field(
        _HEALTH.full_share, gt=0, le=1, description="A queue fuller than this share of its bound: degraded."
    )
    start_limit_ms: DurationMs = Field(
        _ms(_HEALTH.start_limit_s), gt=0, alias="start_limit", description="A starting instance may be silent so long."
    )
    dead_after_ms: DurationMs = Field(
        _ms(_HEALTH.dead_after_s), gt=0, alias="dead_after", description="Unreachable so long: it is dead."
    )

    def settings(self) -> HealthSettings:
        """As the health core knows them."""
        return HealthSettings(
            self.slow_ms,
            self.full_share,
            self.start_limit_ms / 1000,
            self.dead_after_ms / 1000,
            self.probe_interval_ms / 1000,
        )
