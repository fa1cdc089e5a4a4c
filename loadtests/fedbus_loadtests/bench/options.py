"""The options of the bench commands: each is there once, and a table says which bench has which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fedbus_loadtests.bench.params import PEERS, Params

DURABILITY = "Of the peers (ours always syncs): as the bar asks, as durable as they can, or as they come."
EVENTS = "Events a round, of every system [default: what takes --round-s]."
REPLICAS = "Copies of every event; more than one needs a region of as many instances."
COMPARED = ("peers", "durability", "events", "payload_bytes", "round_s")
REPLICATED = (*COMPARED, "replicas")
ALWAYS = ("rounds", "as_json")

OPTIONS_OF: dict[str, tuple[str, ...]] = {
    "publish": REPLICATED,
    "consume": REPLICATED,
    "latency": (*REPLICATED, "rate_eps"),
    "topics": (*REPLICATED, "topics"),
    "fanout": (*REPLICATED, "connections"),
    "link": ("events", "payload_bytes", "round_s", "rate_eps"),
    "failover": ("replicas",),
    "memory": ("topics",),
    "recovery": ("size_mib",),
    "http": ("round_s", "payload_bytes"),
}


def options_of(bench: str) -> list[click.Parameter]:
    """Fresh options for the command of this bench."""
    made = {
        "peers": click.Option(
            ["--peer", "peers"], multiple=True, type=click.Choice(PEERS), default=("nats",), show_default=True,
            help="Whom to compare with; may be repeated.",
        ),
        "durability": click.Option(
            ["--durability"], type=click.Choice(["bar", "fsync", "default"]), default="bar", show_default=True,
            help=DURABILITY,
        ),
        "events": click.Option(["--events"], type=click.IntRange(min=100), help=EVENTS),
        "payload_bytes": click.Option(
            ["--payload-bytes"], type=click.IntRange(16, 2**20), default=256, show_default=True, help="Random bytes."
        ),
        "round_s": click.Option(
            ["--round-s"], type=click.FloatRange(0.05, 600), default=2.0, show_default=True, help="Seconds a round."
        ),
        "replicas": click.Option(
            ["--replicas"], type=click.IntRange(1, 5), default=1, show_default=True, help=REPLICAS
        ),
        "rate_eps": click.Option(
            ["--rate", "rate_eps"], type=click.FloatRange(1, 100_000), default=1000.0, show_default=True,
            help="Events per second.",
        ),
        "connections": click.Option(
            ["--connections"], type=click.IntRange(1, 1000), default=100, show_default=True, help="Subscribers."
        ),
        "topics": click.Option(
            ["--topics"], type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="How many."
        ),
        "size_mib": click.Option(
            ["--size-mib"], type=click.IntRange(1, 65_536), default=1024, show_default=True, help="Of the ledger."
        ),
        "rounds": click.Option(["--rounds"], type=click.IntRange(1, 1000), default=5, show_default=True),
        "as_json": click.Option(["--json", "as_json"], is_flag=True, help="One JSON object on stdout."),
    }  # fmt: skip
    return [made[name] for name in (*OPTIONS_OF.get(bench, ()), *ALWAYS)]


def relevant(bench: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that mean something to this bench, and whatever it has added itself."""
    meant = {*OPTIONS_OF.get(bench, ()), "rounds"}
    return {name: value for name, value in params.items() if name in meant or name not in Params.__struct_fields__}
