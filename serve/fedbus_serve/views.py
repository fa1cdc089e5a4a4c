"""Views: the JSON shapes of the control plane, as the gateway answers them and as managers produce them.

Times are RFC 3339 in UTC, rates events per second, ``_ms`` integers. A field that a manager cannot fill yet is
``null``; fields that come later are added, never renamed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

InstanceState = Literal["starting", "healthy", "degraded", "draining", "unreachable", "dead"]
Point = tuple[AwareDatetime, float]
"""(time, value)."""
Band = tuple[AwareDatetime, float, float, float]
"""(time, mean, lower quantile, upper quantile)."""


class View(BaseModel):
    """Base of all views; unknown fields of a newer manager are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class LinkView(View):
    """What this region pulls from another."""

    source: str = Field(description="The region events come from.")
    state: str = Field("up", description="up | down.")
    rate_eps: float = 0.0
    lag_ms: int | None = None


class RegionView(View):
    """A region at a glance."""

    region: str
    federation: str = ""
    provider: str = ""
    location: str = ""
    latitude: float = 0.0
    longitude: float = 0.0
    state: str = Field("healthy", description="healthy | degraded | unreachable, over all its instances.")
    instances: int = Field(0, description="Instances that take events.")
    load_eps: float = 0.0
    observed_eps: float | None = Field(None, description="The load as the plan sees it: a peak of the last slots.")
    forecast_eps: float | None = Field(None, description="Highest predicted mean within the horizon.")
    capacity_eps: float = 0.0
    required_eps: float | None = Field(None, description="Capacity that forecast and SLA ask for.")
    explanation: str = Field("", description="Why the region has the instances it has, in a sentence.")
    published_total: int = 0
    delivered_total: int = 0
    links: list[LinkView] = Field(default_factory=list)
    as_of: AwareDatetime = Field(description="The manager's time when this was measured.")


class InstanceView(View):
    """A bus instance."""

    region: str
    instance: str
    state: InstanceState
    size: str = ""
    endpoint: str = ""
    ledger: str = Field("", description="The ledger it writes: region/instance/epoch.")
    load_eps: float = 0.0
    capacity_eps: float = 0.0
    published_total: int = 0
    since: AwareDatetime = Field(description="In this state since.")
    detail: str = Field("", description="Why it is in this state, for people.")
    node: str = ""
    cpu_share: float | None = Field(None, description="Share of one core since the last report.")
    memory_bytes: int | None = None
    round_trip_ms: float | None = Field(None, description="Smoothed, of the health monitor's probes.")
    backlog_events: int | None = Field(None, description="Events its groups have not settled, at most.")
    ledgers: dict[str, int] = Field(default_factory=dict, description="Ledgers it serves, with their confirmed ends.")
    pid: int | None = None
    groups: list[str] = Field(default_factory=list)


class ForecastView(View):
    """Load as it was, as it is expected, and the capacity ordered for it; at most some 1,500 points altogether."""

    region: str
    as_of: AwareDatetime = Field(description="Now, in the time of the series.")
    made_at: AwareDatetime | None = Field(None, description="When the forecast was made.")
    model: str = Field("", description="The model chosen by backtest; empty before the first forecast.")
    basis: str = Field("", description="What scaling rests on: forecast | reactive | hold, and why.")
    mase: float | None = Field(None, description="Mean absolute scaled error in its backtest; below 1 beats naive.")
    scores: dict[str, float] = Field(default_factory=dict, description="The same, of every model that takes part.")
    quantile: float | None = Field(None, description="The upper quantile of the band, which the SLA implies.")
    history: list[Point] = Field(default_factory=list)
    forecast: list[Band] = Field(default_factory=list)
    capacity: list[Point] = Field(default_factory=list, description="A step function: each value holds until the next.")


class DirectiveView(View):
    """An instruction to provisioning, and what became of it; newest first."""

    id: str
    region: str
    action: Literal["create", "resize", "drain", "destroy"]
    instance: str = ""
    size: str = ""
    state: str = Field("planned", description="planned | applying | done | failed | expired.")
    cause: str = Field(description="forecast | reactive | trigger | override | repair | minimum | scale_in.")
    reason: str = Field(description="The decision in one sentence, with its numbers.")
    outcome: str = ""
    created: AwareDatetime
    finished: AwareDatetime | None = None


class RouteView(View):
    """An instance's place in the routing table."""

    region: str
    instance: str
    endpoint: str
    state: str
    weight: float = 1.0
    slots: int = Field(0, description="Key slots of 4,096 that it owns.")


class RoutingView(View):
    """The routing table of the region whose manager made it: it holds all regions."""

    region: str
    federation: str
    version: int
    routes: list[RouteView]
    failover: list[str] = Field(default_factory=list, description="Regions in the order in which they stand in.")


class SlaView(View):
    """What is promised for a topic filter."""

    filter: str
    max_latency_ms: int
    availability: float
    quantile: float | None = Field(None, description="Forecast quantile that it implies.")


class TriggerView(View):
    """An external event known ahead."""

    id: str
    region: str | None = Field(None, description="None: all regions.")
    starts: AwareDatetime
    ends: AwareDatetime
    effect: float = Field(description="Factor on the expected load.")
    extra_eps: float = Field(0.0, description="Events per second on top.")
    note: str = ""


class TopicView(View):
    """A policy for the topics of a filter."""

    topic: str = Field(description="The filter it is about.")
    retention_ms: int | None = None
    durability: str = "region"
    regions: list[str] = Field(default_factory=list, description="Empty: all.")
    schema_subject: str | None = None


class SubscriptionView(View):
    """A durable consumer group."""

    group: str
    filters: list[str]
    region: str = Field(description="Its home region.")
    members: int = 0
    backlog_events: int | None = None
    in_flight_events: int | None = None
    redelivered_events: int = 0
