"""Views: the JSON shapes of the control plane, as the gateway answers them and as managers produce them.

Times are RFC 3339 in UTC, rates events per second, ``_ms`` integers. A field that a manager cannot fill yet is
``null``; fields that come later are added, never renamed.
"""

from __future__ import annotations

from typing import Any, Literal

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
    lag_ms: int | None = Field(None, description="Age of the oldest event not pulled yet.")
    behind_events: int | None = Field(None, description="Events not pulled yet, at most.")
    topics: dict[str, int] = Field(default_factory=dict, description="The lag by topic, in ms; the worst of them.")


class PeerView(View):
    """Another region as this one's manager sees it."""

    region: str
    state: str = Field(description="healthy | lost | waiting (never heard).")
    round_trip_ms: float | None = None
    lost_for_s: float | None = None
    endpoint: str = Field("", description="Where its manager is dialled.")
    public_key: str = ""


class RegionView(View):
    """A region at a glance."""

    region: str
    federation: str = ""
    provider: str = ""
    location: str = ""
    latitude: float = 0.0
    longitude: float = 0.0
    state: str = Field(
        "healthy",
        description="healthy | degraded | unreachable, over all its instances; lost | waiting (never heard): as the "
        "gateway's region sees it, all else is what was heard last.",
    )
    lost_since: AwareDatetime | None = None
    round_trip_ms: float | None = Field(None, description="From the gateway's region; null: itself.")
    gateway: str = Field("", description="Its gateway's URL, for clients.")
    peering: str = Field("", description="Where other managers reach its manager.")
    public_key: str = Field("", description="By it others know the region (Z85).")
    instances: int = Field(0, description="Instances that take events.")
    load_eps: float = 0.0
    observed_eps: float | None = Field(None, description="The load as the plan sees it: a peak of the last slots.")
    forecast_eps: float | None = Field(None, description="Highest predicted mean within the horizon.")
    capacity_eps: float = 0.0
    required_eps: float | None = Field(None, description="Capacity that forecast and SLA ask for.")
    explanation: str = Field("", description="Why the region has the instances it has, in a sentence.")
    published_total: int = 0
    delivered_total: int = 0
    ledgers: int = Field(0, description="Ledgers it keeps.")
    under_replicated: int = Field(0, description="How many of them have fewer copies than wanted.")
    geo_waiting_events: int = Field(0, description="Events stored that count only when a second region has them.")
    geo_waiting_ms: int = Field(0, description="For how long the oldest of them has been waiting.")
    links: list[LinkView] = Field(default_factory=list)
    recovery_point_ms: int | None = Field(
        None,
        description="How much of its newest events the loss of the region would cost others, in ms: the worst lag.",
    )
    peers: list[PeerView] = Field(default_factory=list)
    peering_dropped: dict[str, int] = Field(default_factory=dict, description="Messages not taken or sent, by why.")
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
    geo_waiting_events: int = Field(0, description="Events stored that count only when a second region has them.")
    geo_waiting_ms: int = Field(0, description="For how long the oldest of them has been waiting.")


class LedgerView(View):
    """A ledger: the log of one incarnation of an instance, and its copies."""

    region: str
    ledger: str = Field(description="region/instance/epoch.")
    state: Literal["OPEN", "RECOVERING", "CLOSED", "EXPIRED"]
    end: int | None = Field(None, description="One past its last confirmed event; None: nobody serves it now.")
    copies: int = Field(description="Whole copies that can be reached now.")
    wanted_copies: int
    under_replicated: bool
    writer: str
    dispatcher: str = Field(description="The instance that hands its events to groups and links.")
    members: list[str] = Field(description="Instances that hold a copy, or are to have one.")
    term: int = Field(0, description="Grows with every recovery.")
    waiting: str = Field("", description="What nothing can be done about at the moment, such as damage.")


class DirectiveView(View):
    """An instruction to provisioning, and what became of it; newest first."""

    id: str
    region: str
    action: Literal["create", "resize", "drain", "destroy"]
    instance: str = ""
    size: str = ""
    state: str = Field("planned", description="planned | applying | done | failed | expired.")
    cause: str = Field(
        description="forecast | reactive | trigger | override | repair | minimum | neighbour | scale_in | replacement."
    )
    reason: str = Field(description="The decision in one sentence, with its numbers.")
    outcome: str = ""
    created: AwareDatetime
    finished: AwareDatetime | None = None


class ExpectedView(View):
    """An occurrence of a trigger that is under way or near, and the load expected of it."""

    trigger: str
    title: str = ""
    origin: Literal["announced", "learned", "detected"] = Field(
        "announced", description="What people said, what earlier occurrences brought, a burst that recurs unannounced."
    )
    state: str = Field(description="coming | under way | over.")
    starts: AwareDatetime
    ends: AwareDatetime
    peak_eps: float = Field(description="Largest load expected of it.")
    why: str = ""
    confidence: float = 1.0


class ForecastView(View):
    """Load as it was and as it is expected, the capacity there was for it, and what was decided and why.

    At most some 2,200 points altogether.
    """

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
    required_eps: float | None = Field(None, description="Capacity that forecast and SLA ask for now.")
    why: str = Field("", description="Why the region has the instances it has, in a sentence.")
    decision: dict[str, Any] | None = Field(
        None, description="The same as data: every source's wish, the sizes considered, minimum, maximum, spare."
    )
    decisions: list[DirectiveView] = Field(
        default_factory=list, description="Directives of the time that the history shows, newest first."
    )
    triggers: list[ExpectedView] = Field(default_factory=list)


class RouteView(View):
    """An instance's place in the routing table, and (of a gateway) what it measured of it."""

    region: str
    instance: str
    endpoint: str
    state: str
    weight: float = 1.0
    slots: int = Field(0, description="Key slots of 4,096 that it owns.")
    measured: bool = Field(False, description="Whether the round trip was measured; else it follows from the distance.")
    rtt_ms: float | None = Field(None, description="Of heartbeats; rises at once, falls slowly.")
    publish_ms: float | None = Field(None, description="Of publishes, likewise.")
    queue_share: float | None = Field(None, description="How full it says its queue is.")
    in_flight: int | None = Field(None, description="Batches sent and not yet answered.")
    suspect: bool = Field(False, description="No session, or it takes nothing.")
    ejected: str = Field("", description="out | probing, and why: it gets no keyless events, or a few as probes.")
    score_ms: float | None = Field(None, description="Predicted latency: of two drawn at random the smaller wins.")
    share: float | None = Field(None, description="Of the last keyless batches.")


class RoutingView(View):
    """A manager's routing table, which holds all regions; or what the gateway that answers makes of it."""

    region: str
    told_by: Literal["manager", "gateway"] = "manager"
    federation: str
    version: int
    routes: list[RouteView]
    failover: list[str] = Field(default_factory=list, description="Regions in the order in which they stand in.")
    predicted_ms: dict[str, float] = Field(default_factory=dict, description="Round trip to each region, as expected.")
    reasons: list[str] = Field(default_factory=list, description="Its last keyless decisions, newest first.")


class KeyRouteView(View):
    """Where the events of a key go."""

    region: str
    key: str
    instance: str
    why: str


class SlaView(View):
    """What is promised for a topic filter."""

    filter: str
    max_latency_ms: int
    availability: float
    quantile: float | None = Field(None, description="Forecast quantile that it implies.")


class LearnedView(View):
    """What a trigger's earlier occurrences brought a region."""

    region: str
    occurrences: int = Field(description="So many were seen; the latest six count.")
    factor: float | None = Field(None, description="The usual peak, as a factor on the load otherwise usual.")
    minutes: float | None = Field(None, description="For so long more than half of that rise.")
    explanation: str = Field(description="What is expected of the next occurrence, and why.")


class WindowView(View):
    """One occurrence."""

    starts: AwareDatetime
    ends: AwareDatetime


class TriggerView(View):
    """An event known ahead, or a burst that was found to recur; the load it brings is a floor for the capacity."""

    id: str
    region: str | None = Field(None, description="None: all regions.")
    starts: AwareDatetime | None = Field(description="The occurrence under way, else the next, else the last.")
    ends: AwareDatetime | None
    windows: list[WindowView] = Field(default_factory=list, description="Other occurrences announced one by one.")
    cron: str | None = Field(None, description="It recurs: minute hour day month weekday …")
    duration_ms: int | None = Field(None, description="… for so long …")
    timezone: str = Field("UTC", description="… in this time zone …")
    valid_from: AwareDatetime | None = Field(None, description="… from then on …")
    valid_until: AwareDatetime | None = Field(None, description="… and until then.")
    effect: float = Field(description="First guess: factor on the expected load.")
    extra_eps: float = Field(0.0, description="Events per second on top.")
    detected: bool = Field(False, description="Nobody announced it: it was found in the load, and goes when it stops.")
    confidence: float | None = Field(None, description="Of what was detected, 0 to 1.")
    learned: list[LearnedView] = Field(default_factory=list, description="By region.")
    note: str = ""


class TopicView(View):
    """What holds for a topic, or for the topics of a filter."""

    topic: str = Field(description="A topic that events came for, or the filter of a policy.")
    policy: str | None = Field(None, description="The filter whose policy it is; null: none, the defaults hold.")
    retention_ms: int | None = Field(None, description="Events are kept at least this long.")
    retention_bytes: int | None = Field(
        None, description="And no longer, once newer closed ledgers of the region with these topics add up to this."
    )
    dedup_window_ms: int | None = Field(None, description="The same source and id are stored once within this time.")
    forward: Literal["interest", "all", "pinned"] = Field("interest", description="Which other regions get them.")
    regions: list[str] = Field(default_factory=list, description="What `forward` and `durability` are about.")
    durability: Literal["region", "federation"] = Field(
        "region", description="Acknowledged when the region has an event, or only when a second region has it too."
    )
    schema_subject: str | None = Field(None, description="Null: the topic's name and `-value`.")
    validation: Literal["registered", "schema", "none"] = "registered"


class UnsharedView(View):
    """What is settled in a group's home and not known in a region that may take its place."""

    region: str
    events: int | None = Field(description="Null: some instance is not followed from there at the moment.")
    lag_ms: int = Field(description="For how long.")


class SubscriptionView(View):
    """A durable consumer group."""

    group: str
    filters: list[str]
    region: str = Field(description="Its home region: there it is dispatched.")
    told_by: str = Field("", description="The region that says so; numbers are those of its instances.")
    scope: Literal["federation", "region"] = Field("federation", description="region: each region has its own.")
    standbys: list[str] = Field(default_factory=list, description="Regions that take its place, in this order.")
    preferred: str = Field("", description="Where it is to be at home when all is well.")
    term: int = Field(0, description="Grows with every change of home or standbys.")
    home_since: AwareDatetime | None = Field(None, description="At home there since.")
    unshared: list[UnsharedView] = Field(default_factory=list, description="What a failover would deliver again.")
    conflict: str = Field("", description="What another region calls by the same name.")
    start: str = "earliest"
    created: AwareDatetime | None = None
    generation: int = Field(1, description="Grows when it is moved (seek).")
    paused: bool = False
    ack_deadline_ms: int = 30_000
    max_deliveries: int = Field(0, description="0: delivered without end.")
    dead_letter_topic: str = ""
    max_in_flight: int = Field(0, description="Events a member may hold unsettled; 0: as many as the limits allow.")
    backoff_min_ms: int = 100
    backoff_max_ms: int = 60_000
    members: int = 0
    backlog_events: int | None = Field(None, description="Events it has not settled, at most.")
    in_flight_events: int | None = None
    redelivered_events: int = 0
    dead_letter_events: int = Field(0, description="Given up since the instances started.")
    expired_events: int = Field(0, description="Lost to retention, at most so many.")
    order_breaks: int = Field(0, description="Key slots whose former owner was not waited for any longer.")


class LedgerProgress(View):
    """How far a group is in a ledger."""

    ledger: str
    position: int = Field(description="Looked through up to here …")
    end: int = Field(description="… of this.")
    in_flight_events: int = 0


class SubscriptionPart(View):
    """A group at one instance."""

    instance: str
    members: list[str] = Field(default_factory=list)
    backlog_events: int = 0
    in_flight_events: int = 0
    redelivered_events: int = 0
    dead_letter_events: int = 0
    order_breaks: int = 0
    ledgers: list[LedgerProgress] = Field(default_factory=list)


class OffsetsView(View):
    """Offsets of one origin ledger."""

    ledger: str
    ranges: list[tuple[int, int]]


class ExpiryView(View):
    """Events that a group had not settled when their ledger was dropped."""

    ledger: str
    events: int = Field(description="At most so many.")
    time: AwareDatetime
    ranges: list[OffsetsView] = Field(default_factory=list)


class HistoryView(View):
    """Something that became of a group: it moved, was taken over, went back."""

    time: AwareDatetime
    message: str


class SubscriptionDetail(SubscriptionView):
    """A group with its part at every instance, what it lost to retention, and where it was at home."""

    instances: list[SubscriptionPart] = Field(default_factory=list)
    expired: list[ExpiryView] = Field(default_factory=list)
    history: list[HistoryView] = Field(default_factory=list, description="As the region that is asked saw it.")
