"""What the managers say of their regions, as Prometheus gauges: copies, links, what others do not have or know yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Gauge


class RegionMetrics:
    """All regions, by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ledgers = Gauge("fedbus_ledgers", "Ledgers of a region.", ["region"], registry=registry)
        self._under_replicated = Gauge(
            "fedbus_ledgers_under_replicated", "Ledgers with fewer copies than wanted.", ["region"],
            registry=registry,
        )  # fmt: skip
        self._geo_events = Gauge(
            "fedbus_geo_waiting_events", "Events that wait for a second region.", ["region"], registry=registry
        )
        self._geo_seconds = Gauge(
            "fedbus_geo_waiting_seconds", "For how long the oldest of them has been waiting.", ["region"],
            registry=registry,
        )  # fmt: skip
        links = ["region", "source"]
        self._lag = Gauge(
            "fedbus_link_lag_seconds", "Age of the oldest event not pulled yet, by origin region.", links,
            registry=registry,
        )  # fmt: skip
        self._behind = Gauge("fedbus_link_behind_events", "Events not pulled yet, at most.", links, registry=registry)
        self._topic_lag = Gauge(
            "fedbus_link_topic_lag_seconds", "Age of events when they came over a link; the worst topics.",
            [*links, "topic"], registry=registry,
        )  # fmt: skip
        self._recovery_point = Gauge(
            "fedbus_recovery_point_seconds", "What the loss of a region would cost others.", ["region"],
            registry=registry,
        )  # fmt: skip

        standbys = ["region", "standby"]
        self._unshared = Gauge(
            "fedbus_groups_unshared_events", "Settled in groups at home in a region, not known in a standby.", standbys,
            registry=registry,
        )  # fmt: skip
        self._unshared_seconds = Gauge(
            "fedbus_groups_unshared_seconds", "For how long; the worst group.", standbys, registry=registry
        )
        self._unfollowed = Gauge(
            "fedbus_groups_unfollowed", "Groups at home in a region that a standby does not follow.", standbys,
            registry=registry,
        )  # fmt: skip
        self._dropped = Gauge(
            "fedbus_peering_dropped", "Messages and handshakes between managers not taken or not sent, by why.",
            ["region", "reason"], registry=registry,
        )  # fmt: skip

    def copies(self, region: str, ledgers: int, under_replicated: int) -> None:
        """A region's ledgers, as its manager said last."""
        self._ledgers.labels(region).set(ledgers)
        self._under_replicated.labels(region).set(under_replicated)

    def waiting(self, region: str, events: int, oldest_ms: int) -> None:
        """What waits in a region for a second one, as its manager said last."""
        self._geo_events.labels(region).set(events)
        self._geo_seconds.labels(region).set(oldest_ms / 1000)

    def links(self, region: str, links: Sequence[Mapping[str, Any]], recovery_point_ms: int | None) -> None:
        """How far a region is behind those it pulls from, and others behind it, as its manager said last."""
        for each in links:
            source, lag_ms = each["source"], each.get("lag_ms")
            if lag_ms is not None:
                self._lag.labels(region, source).set(lag_ms / 1000)
                self._behind.labels(region, source).set(each.get("behind_events") or 0)
            for topic, age_ms in (each.get("topics") or {}).items():
                self._topic_lag.labels(region, source, topic).set(age_ms / 1000)
        if recovery_point_ms is not None:
            self._recovery_point.labels(region).set(recovery_point_ms / 1000)

    def groups(self, region: str, groups: Iterable[Mapping[str, Any]]) -> None:
        """What a failover of the groups at home in a region would deliver again, as its manager said last."""
        standbys: dict[str, list[Mapping[str, Any]]] = {}
        for group in groups:
            if group.get("region") == region:
                for unshared in group.get("unshared", ()):
                    standbys.setdefault(unshared["region"], []).append(unshared)
        for standby, each in standbys.items():
            events = [unshared["events"] for unshared in each]
            self._unshared.labels(region, standby).set(sum(known for known in events if known is not None))
            self._unshared_seconds.labels(region, standby).set(max(unshared["lag_ms"] for unshared in each) / 1000)
            self._unfollowed.labels(region, standby).set(events.count(None))

    def dropped(self, region: str, dropped: Mapping[str, int]) -> None:
        """What its manager did not take from others, or could not send them, since it began."""
        for reason, messages in dropped.items():
            self._dropped.labels(region, reason).set(messages)

    def forget_topics(self) -> None:
        """Which topics are the worst changes, and who stands by: those of the last page are gone."""
        self._topic_lag.clear()
        for gauge in (self._unshared, self._unshared_seconds, self._unfollowed):
            gauge.clear()
