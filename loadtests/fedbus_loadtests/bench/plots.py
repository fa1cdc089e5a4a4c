"""The plots of the benchmarks page, as SVG: the same results give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbus_loadtests.bench.bars import BARS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Runs = Mapping[str, Mapping[str, Any]]
COLOURS = {"fedbus": "#0b6e4f", "nats": "#3a86ff", "redis": "#d62828", "rabbitmq": "#ff9f1c"}
WIDTH_IN, HEIGHT_IN = 8.0, 3.6
RATE_RUNS = ("publish", "publish-r3", "topics", "fanout", "consume")


def draw(runs: Runs, directory: Path) -> list[str]:
    """Draw what there are results for; the names of the files."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "fedbus", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    plots = {
        "bars": _bars, "rates": _rates, "latency": _latency, "batches": _batches, "slowed_instance": _slowed,
    }  # fmt: skip
    for name, plot in plots.items():
        if _save(directory / f"{name}.svg", plot, runs):
            drawn.append(f"{name}.svg")
    return drawn


def _save(path: Path, plot: Any, runs: Runs) -> bool:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    try:
        if found := plot(axes, runs):
            figure.savefig(path, metadata={"Date": None})
    finally:
        plt.close(figure)
    return bool(found)


def _bars(axes: Axes, runs: Runs) -> bool:
    """How far every bar is reached: 1 is the bar, more is better."""
    rows = [(bar, value) for bar in BARS if (value := bar.measured(runs)) is not None and value > 0]
    reached = [value / bar.target if bar.at_least else bar.target / value for bar, value in rows]
    labels = [f"{bar.run} {bar.figure.removeprefix('fedbus.').removeprefix('ratio.')}" for bar, _ in rows]
    axes.figure.set_size_inches(WIDTH_IN, 1 + 0.24 * max(1, len(rows)))  # type: ignore[union-attr]
    axes.barh(labels, reached, color=[COLOURS["fedbus"] if each >= 1 else COLOURS["redis"] for each in reached])
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="share of the bar reached (1 = the bar; right is better)")
    axes.invert_yaxis()
    return bool(rows)


def _rates(axes: Axes, runs: Runs) -> bool:
    """Events per second of every system, medians, with the rounds as dots."""
    shown = [name for name in RATE_RUNS if name in runs]
    for place, name in enumerate(shown):
        systems = {"fedbus": runs[name]["fedbus"], **runs[name]["peers"]}
        width = 0.8 / len(systems)
        for number, (system, found) in enumerate(systems.items()):
            at = place - 0.4 + (number + 0.5) * width
            axes.bar(at, found["events_per_s"], width * 0.9, color=COLOURS[system], label=system if not place else None)
            axes.plot([at] * len(found["rounds"]), found["rounds"], "k.", markersize=3)
    axes.set_xticks(range(len(shown)), shown)
    axes.set(yscale="log", ylabel="events/s")
    if shown:
        axes.legend(frameon=False, ncols=4, loc="upper left", bbox_to_anchor=(0, 1.12))
    return bool(shown)


def _latency(axes: Axes, runs: Runs) -> bool:
    """Distribution of the latencies of all rounds together."""
    run = runs.get("latency")
    if run is None:
        return False
    for system, found in {"fedbus": run["fedbus"], **run["peers"]}.items():
        for prefix, style, what in (("", "-", "acknowledged"), ("delivered_", "--", "delivered")):
            points = found.get(f"{prefix}cdf", [])
            label = f"{system}, {what}"
            axes.plot([p[1] for p in points], [p[0] for p in points], style, color=COLOURS[system], label=label)
    axes.set(xscale="log", xlabel="ms since the event was due", ylabel="share of events")
    axes.legend(frameon=False, fontsize=7)
    return True


def _batches(axes: Axes, runs: Runs) -> bool:
    """Throughput of our producer by batch size."""
    points = runs.get("publish", {}).get("fedbus", {}).get("by_batch", [])
    axes.plot([p[0] for p in points], [p[1] for p in points], "o-", color=COLOURS["fedbus"])
    axes.set(xscale="log", yscale="log", xlabel="events per batch", ylabel="events/s, acknowledged")
    axes.grid(which="both", alpha=0.2)
    return bool(points)


def _slowed(axes: Axes, runs: Runs) -> bool:
    """Share of the keyless events that an instance takes which is slow for a while."""
    run = runs.get("slowed")
    if run is None:
        return False
    found, instances = run["fedbus"], run["params"]["instances"]
    axes.axvspan(found["slow_from_s"], found["slow_until_s"], color=COLOURS["redis"], alpha=0.15, linewidth=0,
                 label=f"it answers {run['params']['delay_ms']:g} ms later")  # fmt: skip
    axes.axhline(1 / instances, color="grey", linewidth=0.8, linestyle="--", label="an equal share")
    axes.step([p[0] for p in found["series"]], [p[1] for p in found["series"]], where="post", color=COLOURS["fedbus"],
              label="share of the slowed instance")  # fmt: skip
    axes.set(xlabel="s", ylabel=f"share of one of {instances} instances", ylim=(0, 1.5 / instances), xlim=(0, None))
    axes.legend(frameon=False, fontsize=7, loc="upper right")
    return True
