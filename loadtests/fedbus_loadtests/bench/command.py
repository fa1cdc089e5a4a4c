"""``fedbus bench``: one bench with its peers, all of them, or the page made from stored results.

The commands of the benches are made of :data:`~fedbus_loadtests.bench.session.BENCHES`; their options are next door.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from fedbus.errors import ConfigurationError
from fedbus_loadtests.bench.options import options_of
from fedbus_loadtests.bench.params import NATS_REPLICAS, Params
from fedbus_loadtests.bench.report import Report, less_is_better
from fedbus_loadtests.bench.session import BENCHES, RUNS, Results, hold, measure

RESULTS, PAGE, PLOTS = Path("docs/benchmarks/results.json"), Path("docs/benchmarks.md"), Path("docs/benchmarks")
WHAT = {
    "publish": "One producer, everything acknowledged.",
    "consume": "A durable group that acknowledges every event.",
    "latency": "Single events in an open loop: publish → acknowledged, → delivered.",
    "topics": "Publishing to 10,000 topics at random.",
    "fanout": "Every event to 100 connections.",
    "link": "Publishing in one region until it is durable in another, and delivered there.",
    "route": "One routing decision.",
    "slowed": "Keyless events while one of three instances is slow.",
    "tick": "One plan of the control loop over 1,000 regions.",
    "memory": "Memory of an instance.",
    "recovery": "Start on a large ledger after kill -9.",
    "failover": "kill -9 → next acknowledged publish.",
    "http": "CloudEvents through the gateway, against an empty deployment.",
}
err = Console(stderr=True)


def say(line: str) -> None:
    """Progress goes to stderr."""
    err.print(line, highlight=False, markup=False)


@click.group()
def bench() -> None:
    """Benchmarks, side by side with peers that are started for them on this machine.

    Ours and the peers' rounds are interleaved; ratios are ours over theirs. The peers' clients come with
    fedbus[bench], NATS too; redis-server and rabbitmq-server are the system's.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended


def _command(name: str) -> click.Command:
    def run(*, as_json: bool, **given: Any) -> None:
        params = Params(**({"peers": ()} | given))
        if "nats" in params.peers and params.replicas not in NATS_REPLICAS:
            raise ConfigurationError(f"JetStream keeps {NATS_REPLICAS} copies: --replicas {params.replicas} is no such")
        _show(asyncio.run(measure(name, params, say)), as_json=as_json)

    return click.Command(name, params=options_of(name), callback=run, help=WHAT[name])


for _name in BENCHES:
    bench.add_command(_command(_name))


@bench.command("all")
@click.option("--only", multiple=True, type=click.Choice(list(RUNS)), help="Only these runs; the others' results stay.")
@click.option("--rounds", type=click.IntRange(1, 1000), help="Of every run [default: 5; 10 for failover].")
@click.option("--round-s", type=click.FloatRange(0.05, 600), help="Seconds a round [default: 2; 5 for latency].")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def run_all(only: tuple[str, ...], rounds: int | None, round_s: float | None, results: Path) -> None:
    """All benches, to a result file; exit status 1 if one could not be run."""
    wanted = {name: value for name, value in (("rounds", rounds), ("round_s", round_s)) if value is not None}
    found = asyncio.run(hold(wanted, only, results, say))
    say(f"written: {results}")
    if found.failures:
        raise click.exceptions.Exit(1)


@bench.command("page")
@click.option("--results", type=click.Path(path_type=Path, exists=True), default=RESULTS, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=PAGE, show_default=True)
@click.option("--plots", "directory", type=click.Path(path_type=Path), default=PLOTS, show_default=True)
def make_page(results: Path, out: Path, directory: Path) -> None:
    """The benchmarks page and its plots, from a result file."""
    from fedbus_loadtests.bench.page import page
    from fedbus_loadtests.bench.plots import draw

    stored = Results.read(results)
    out.write_text(page(stored, draw(stored.runs, directory)), encoding="utf-8")
    say(f"written: {out}")


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(report.to_dict()).decode() + "\n")
        return
    table = Table(title=f"fedbus bench {report.bench}", title_justify="left")
    table.add_column("figure")
    systems = {"fedbus": report.fedbus, **report.peers}
    for system in systems:
        table.add_column(system, justify="right")
    names = [name for name, value in report.fedbus.items() if isinstance(value, int | float | str)]
    for name in names:
        table.add_row(name, *(_cell(found.get(name)) for found in systems.values()))
    for name, ratio in {"ratio": report.ratio, **report.more}.items():
        if isinstance(ratio, dict):
            better = "less" if name.startswith("ratio") and less_is_better(_ratio_of(report.bench)) else "more"
            cells = (_cell(ratio.get(system)) for system in systems)
            table.add_row(f"{name} ({better} is better)", *cells, style="bold")
    Console().print(table)


def _ratio_of(name: str) -> str:
    return "p50_ms" if name == "latency" else "events_per_s"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
