"""The summary picture of a run: acknowledged rate and latency over time, with the faults behind them, as SVG."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fedbus_loadtests.chaos.entry import Entry

NS_PER_S = 1_000_000_000
BIN_S = 0.25
HEIGHT, WIDTH = 5.0, 12.0  # inches


class Timeline(msgspec.Struct):
    """By bins of :data:`BIN_S` seconds since the run began; ``faults``: (from, to, what) in seconds."""

    seconds: list[float]
    rate_eps: list[float]
    delivered_eps: list[float]
    worst_ms: list[float]
    median_ms: list[float]
    faults: list[tuple[float, float, str]]


def timeline(history: Iterable[Entry]) -> Timeline:
    """What a merged history shows over time."""
    begun: dict[tuple[str, str], int] = {}
    latencies_ms: dict[int, list[float]] = defaultdict(list)
    delivered: dict[int, int] = defaultdict(int)
    faults: list[tuple[float, float, str]] = []
    struck: tuple[float, str] | None = None
    first_ns = -1
    for entry in history:
        first_ns = entry.time_ns if first_ns < 0 else first_ns
        now_s = (entry.time_ns - first_ns) / NS_PER_S
        place = int(now_s / BIN_S)
        match entry.operation, entry.kind:
            case "publish", "invoke":
                begun[entry.process, entry.id] = entry.time_ns
            case "publish", "ok":
                latencies_ms[place].append((entry.time_ns - begun[entry.process, entry.id]) / 1e6)
            case "deliver", "ok":
                delivered[place] += 1
            case "fault", _:
                struck = (now_s, f"{entry.fault} {entry.target}")
            case "heal", _ if struck is not None:
                faults.append((struck[0], now_s, struck[1]))
                struck = None
    places = range(max([*latencies_ms, *delivered], default=0) + 1)
    return Timeline(
        seconds=[place * BIN_S for place in places],
        rate_eps=[len(latencies_ms[place]) / BIN_S for place in places],
        delivered_eps=[delivered[place] / BIN_S for place in places],
        worst_ms=[max(latencies_ms[place], default=float("nan")) for place in places],
        median_ms=[_median(latencies_ms[place]) for place in places],
        faults=faults,
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else float("nan")


def draw(shown: Timeline, title: str, path: Path) -> None:
    """Write the picture (needs matplotlib)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    rate, latency = figure.subplots(2, 1, sharex=True)
    rate.plot(shown.seconds, shown.rate_eps, color="tab:blue", label="acknowledged")
    rate.plot(shown.seconds, shown.delivered_eps, color="tab:green", linewidth=0.7, label="delivered")
    rate.set_ylabel("events/s")
    rate.legend(loc="upper right")
    latency.plot(shown.seconds, shown.worst_ms, color="tab:red", label="worst")
    latency.plot(shown.seconds, shown.median_ms, color="tab:gray", label="median")
    latency.set_yscale("log")
    latency.set_ylabel("publish to ack, ms")
    latency.set_xlabel("s")
    latency.legend(loc="upper right")
    for begin_s, end_s, what in shown.faults:
        for axes in (rate, latency):
            axes.axvspan(begin_s, max(end_s, begin_s + BIN_S), color="tab:orange", alpha=0.25, linewidth=0)
        rate.annotate(what, (begin_s, 1.0), xycoords=("data", "axes fraction"), rotation=60, fontsize=7)
    rate.set_title(title, loc="left", pad=32)
    figure.savefig(path, format="svg")
