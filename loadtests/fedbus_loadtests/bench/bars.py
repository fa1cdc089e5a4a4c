"""The bars: what performance has to reach, as ratios and absolute limits, and what stops those that are missed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Bar(msgspec.Struct, frozen=True):
    """``figure`` of ``run`` is at least (``at_least``) or at most ``target``. ``stops``: why it is missed, if it is."""

    run: str
    figure: str
    target: float
    what: str
    at_least: bool = True
    stops: str = ""

    def measured(self, runs: Mapping[str, Mapping[str, Any]]) -> float | None:
        """The figure of this bar; None if it was not measured."""
        found: Any = runs.get(self.run)
        for name in self.figure.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return float(found) if isinstance(found, int | float) else None

    def met(self, value: float) -> bool:
        """Whether that is enough."""
        return value >= self.target if self.at_least else value <= self.target

    @property
    def wanted(self) -> str:
        """The target in words."""
        return f"{'≥' if self.at_least else '≤'} {self.target:g}"


CLIENT_BOUND = (
    "Our producer and its encoder take the whole of one core, and the instance the other. Next: encode a batch of "
    "events in one call, or a producer thread beside the event loop."
)
HOPS = (
    "Profile of one event at 1,000/s (medians, µs): client 110 of its own, four ZeroMQ I/O threads and the network "
    "some 140, broker core 130 (29 when its caches are warm), hand-over to the commit thread and back 80, write 30, "
    "fsync 200. Go crosses no such thread. Next: the broker thread commits by itself while nothing else is under way "
    "and the disk is quick; segments allocated ahead, which spares fsync the journal (30 at p50, more at p99)."
)
SERVE = (
    "CPU of the gateway's process per request (µs): 104 for the empty deployment, 170 for ours. 39 of these are our "
    "own (reading and checking the event 10, producer, outbox and session 20), the rest is Serve's and uvicorn's, "
    "which take more while the instance, the proxy and the client share two cores with them. Next: answer all requests "
    "of one commit in one turn of the loop; on four cores a second gateway process."
)

BARS = (
    Bar("publish", "ratio.nats", 10, "one producer against JetStream as it comes (no fsync); ours synced",
        stops=CLIENT_BOUND),
    Bar("publish", "ratio.redis", 3, "one producer against Redis pipelined, `appendfsync always`", stops=CLIENT_BOUND),
    Bar("publish-r3", "ratio.nats", 5, "R = 3 against a JetStream R3 cluster of three, all synced"),
    Bar("consume", "ratio.nats", 10, "durable group, every event acknowledged: buffered against a pull `ack`"),
    Bar("consume", "ratio_durable.nats", 10, "the same, durable acknowledgements against `ack_sync`",
        stops="A confirmation is a round trip and an fsync for what `take` returned. Next: take the next batch while "
        "that goes on."),
    Bar("latency", "ratio.nats", 1, "p50 publish → acknowledged at 1,000/s, both synced", at_least=False, stops=HOPS),
    Bar("latency", "ratio_p99.nats", 1, "p99 publish → acknowledged", at_least=False, stops=HOPS),
    Bar("latency", "ratio_delivered.nats", 1, "p50 publish → delivered", at_least=False, stops=HOPS),
    Bar("latency", "ratio_delivered_p99.nats", 1, "p99 publish → delivered", at_least=False, stops=HOPS),
    Bar("topics", "ratio.nats", 3, "10,000 topics at random against JetStream, both synced"),
    Bar("fanout", "ratio.nats", 2, "100 connections in one process against core NATS (memory only); ours stored"),
    Bar("link", "ratio.local", 0.7, "durable in a second region (CURVE) while publishing to the first, against local"),
    Bar("link", "fedbus.added_p50_ms", 5, "p50 delivered there at 1,000/s, over that of a local delivery, ms",
        at_least=False),
    Bar("http", "ratio.empty_serve", 0.7, "single CloudEvents through the gateway against an empty ASGI deployment",
        stops=SERVE),
    Bar("http", "ratio_batch", 40, "batches of 100 against single events, in events/s",
        stops="A batch of 100 costs 100 validations and 100 encodings in the one gateway process, while a single event "
        "costs mostly its request."),
    Bar("route", "fedbus.p50_us", 3, "one decision over 1,000 instances, µs", at_least=False),
    Bar("route", "fedbus.growth", 1.25, "the same over 10: flat", at_least=False),
    Bar("slowed", "fedbus.moved", 0.9, "share of its keyless traffic that a slowed instance loses within 5 s"),
    Bar("slowed", "fedbus.left_again", 0, "times its traffic leaves again, once it is back", at_least=False),
    Bar("recovery", "fedbus.p50_s", 2, "start on a 1 GiB ledger after kill -9, warm cache, s", at_least=False),
    Bar("recovery", "fedbus.added_mib", 32, "memory over that of an empty instance, MiB", at_least=False),
    Bar("failover", "fedbus.p99_ms", 1000, "kill -9 → next acknowledged publish, R + 1 instances, ms", at_least=False),
    Bar("tick", "fedbus.p50_s", 0.5, "a plan over 1,000 regions × 20 instances, s", at_least=False),
    Bar("memory", "fedbus.idle_mib", 200, "an idle instance, MiB", at_least=False),
    Bar("memory", "fedbus.added_mib", 100, "10,000 topics and 1,000 subscriptions, MiB on top", at_least=False),
)  # fmt: skip
