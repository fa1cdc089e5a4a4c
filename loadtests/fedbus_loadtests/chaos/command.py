"""``fedbus chaos``: fault runs against a region started for them, and verdicts on histories."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Literal

import click

from fedbus.clock import SystemClock
from fedbus.errors import FedbusError
from fedbus_loadtests.chaos.campaign import Campaign
from fedbus_loadtests.chaos.fault_run import Plan
from fedbus_loadtests.chaos.faults import KINDS, of_replicas
from fedbus_loadtests.chaos.history import read_histories
from fedbus_loadtests.chaos.verdict import judge


@click.group()
def chaos() -> None:
    """Faults on purpose, and whether every promise was kept."""


@chaos.command()
@click.option("--minutes", type=click.FloatRange(0.1, 10_000), default=60.0, show_default=True, help="How long.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first run; the next takes the next.")
@click.option("--faults", default="", metavar="KIND,…", help=f"Of {', '.join(KINDS)} [default: all that apply].")
@click.option("--replicas", type=click.IntRange(1, 2), default=2, show_default=True, help="Copies of every ledger.")
@click.option("--instances", type=click.IntRange(1, 8), default=3, show_default=True)
@click.option("--rate", "rate_eps", type=click.FloatRange(10, 5000), default=250.0, show_default=True,
              help="Events per second of each of the two publishers.")  # fmt: skip
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), help="Where to keep everything.")
def run(
    minutes: float,
    seed: int,
    faults: str,
    replicas: Literal[1, 2],
    instances: int,
    rate_eps: float,
    results: Path | None,
) -> None:
    """Run real regions under faults and check everything they do; exit status 1 if a promise was broken."""
    kinds = tuple(faults.split(",")) if faults else of_replicas(replicas)
    if unknown := set(kinds) - set(KINDS):
        raise click.BadParameter(f"no such fault: {', '.join(sorted(unknown))}", param_hint="--faults")
    folder = results or Path(tempfile.mkdtemp(prefix="fedbus-chaos-"))
    plan = Plan(seed, kinds, 0, instances=instances, rate_eps=rate_eps, replicas=replicas)
    try:
        done = Campaign(folder, plan, SystemClock(), lambda line: print(line, flush=True)).run(minutes * 60)
    except FedbusError as error:
        raise click.ClickException(f"{error.detail} (see {folder})") from None
    broken = [plan.seed for plan, verdict in done if not verdict.ok]
    print(f"{len(done)} runs, {sum(verdict.published for _, verdict in done)} events; results in {folder}")
    if broken:
        print(f"VIOLATED by seeds {', '.join(map(str, broken))}: run again with --seed", file=sys.stderr)
    sys.exit(1 if broken else 0)


@chaos.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Judge recorded histories (JSON lines; a directory stands for all in it); exit status 1 if it broke a promise."""
    try:
        verdict = judge(read_histories(files))
    except FedbusError as error:
        raise click.ClickException(error.detail) from None
    print(verdict.text())
    sys.exit(0 if verdict.ok else 1)
