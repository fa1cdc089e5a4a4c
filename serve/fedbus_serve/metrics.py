"""Metrics: what a gateway counts, recorded once per request, in Prometheus' text format at ``/metrics``.

Few series, all with bounded labels. They are this process's own: with several gateways each answers for itself.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from fedbus_serve.answer import Answer
from fedbus_serve.region_metrics import RegionMetrics

PUBLISH, STREAM, CONTROL, REGISTRY, PAGE = "publish", "stream", "control", "registry", "page"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NS_PER_S = 1_000_000_000


class GatewayMetrics:
    """The series of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "fedbus_gateway_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self._events = Counter(
            "fedbus_gateway_events", "Events by what became of them.", ["outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "fedbus_gateway_publish_seconds", "Publish requests until they are answered.",
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._in_flight = Gauge(
            "fedbus_gateway_requests_in_flight", "Publish requests in flight.", registry=self._registry
        )
        self._in_flight_bytes = Gauge(
            "fedbus_gateway_bytes_in_flight", "Bytes of their bodies.", registry=self._registry
        )
        self._streams = Gauge("fedbus_gateway_streams_open", "Open event streams.", registry=self._registry)
        self.regions = RegionMetrics(self._registry)
        self._durable = self._events.labels("durable")
        self._failed = self._events.labels("failed")
        self._streamed = self._events.labels("streamed")
        self._by_answer: dict[tuple[str, int], Counter] = {}

    def answered(self, route: str, status: int) -> None:
        """One request of one of the routes above."""
        counter = self._by_answer.get((route, status))
        if counter is None:
            counter = self._by_answer[route, status] = self._requests.labels(route, str(status))
        counter.inc()

    def published(self, durable: int, failed: int, elapsed_ns: int) -> None:
        """A publish request's events and how long it took."""
        self._durable.inc(durable)
        if failed:
            self._failed.inc(failed)
        self._seconds.observe(elapsed_ns / _NS_PER_S)

    def streamed(self, events: int) -> None:
        """Events sent to streams."""
        self._streamed.inc(events)

    def text(self, requests: int, body_bytes: int, streams: int) -> Answer:
        """The page; the gauges are told the moment's values."""
        self._in_flight.set(requests)
        self._in_flight_bytes.set(body_bytes)
        self._streams.set(streams)
        return Answer(200, CONTENT_TYPE_PLAIN_0_0_4.encode(), generate_latest(self._registry))
