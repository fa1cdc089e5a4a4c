"""The picture of ``fedbus forecast --plot``: load, band, capacity in steps, triggers, and numbered decisions with why.

Needs matplotlib, which is imported only here.
"""

from __future__ import annotations

import textwrap
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbus.errors import EnvironmentUnusableError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECISIONS = 12
#: Characters of a line under the picture, and its height in inches.
LINE_WIDE, LINE_HIGH = 170, 0.16
COLOURS = {"forecast": "tab:orange", "trigger": "tab:purple", "reactive": "tab:red", "scale_in": "tab:gray"}
OTHER_CAUSE = "tab:blue"


def draw(found: dict[str, Any], file: Path) -> None:
    """Draw one item of ``/v1/forecasts``; the file's ending chooses the format. EnvironmentUnusableError."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EnvironmentUnusableError("--plot needs matplotlib: pip install matplotlib, or leave --plot out") from None
    decisions = found["decisions"][:DECISIONS][::-1]
    lines = [line for number, each in enumerate(decisions, 1) for line in _why(number, each)]
    figure = Figure(figsize=(12, 5 + LINE_HIGH * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    _load(axes, found)
    _triggers(axes, found)
    _decisions(axes, decisions)
    axes.set_title(
        f"{found['region']}: events/s" + (f"\n{found['why']}" if found["why"] else ""), fontsize=10, wrap=True, pad=14
    )
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", fontsize=8)
    if lines:
        axes.set_xlabel("\n".join(lines), loc="left", fontsize=7)
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise EnvironmentUnusableError(f"{file}: cannot be drawn: {error}") from None


def _load(axes: Axes, found: dict[str, Any]) -> None:
    if found["history"]:
        axes.plot(_times(found["history"]), [eps for _, eps in found["history"]], label="load", linewidth=1)
    if found["forecast"]:
        times = _times(found["forecast"])
        _, means, lower, upper = zip(*found["forecast"], strict=True)
        axes.plot(times, means, label=f"forecast ({found['model']})", color="tab:orange")
        axes.fill_between(
            times, lower, upper, alpha=0.25, color="tab:orange", label=f"up to quantile {found['quantile']:g}"
        )
    if found["capacity"]:
        # The last step holds until the end of what is shown.
        ends = [points[-1][0] for points in (found["capacity"], found["history"], found["forecast"]) if points]
        steps = [*found["capacity"], [max(ends), found["capacity"][-1][1]]]
        axes.step(
            _times(steps), [eps for _, eps in steps], where="post", label="capacity", linestyle="--", color="tab:green"
        )
    axes.axvline(_time(found["as_of"]), color="tab:pink", linewidth=1, label="now")


def _triggers(axes: Axes, found: dict[str, Any]) -> None:
    for each in found["triggers"]:
        starts, ends = _time(each["starts"]), _time(each["ends"])
        label = f"trigger {each['title'] or each['trigger']} ({each['state']})"
        axes.axvspan(starts, ends, alpha=0.12, color="tab:purple", label=label)
        axes.hlines(each["peak_eps"], starts, ends, color="tab:purple", linestyle=":")


def _decisions(axes: Axes, decisions: list[dict[str, Any]]) -> None:
    for number, each in enumerate(decisions, 1):
        at, colour = _time(each["created"]), COLOURS.get(each["cause"], OTHER_CAUSE)
        axes.axvline(at, color=colour, linewidth=0.8, alpha=0.6)
        axes.annotate(
            f"{'+' if each['action'] == 'create' else '−'}{number}", (at, 1), xycoords=("data", "axes fraction"),
            ha="center", va="bottom", fontsize=7, color=colour,
        )  # fmt: skip


def _why(number: int, each: dict[str, Any]) -> list[str]:
    what = (
        f"{number}  {each['created'][11:16]}  {each['action']} {each['instance']} ({each['cause']}): {each['reason']}"
    )
    return textwrap.wrap(what, LINE_WIDE, subsequent_indent="     ")


def _times(points: list[list[Any]]) -> Any:
    """As matplotlib takes them, though its types do not say so."""
    return [_time(point[0]) for point in points]


def _time(text: str) -> Any:
    return datetime.fromisoformat(text)
