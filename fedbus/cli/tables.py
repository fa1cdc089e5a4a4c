"""Tables and numbers for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 160
BARS = "▁▂▃▄▅▆▇█"
STATES = {
    "healthy": "green", "degraded": "yellow", "starting": "cyan", "draining": "magenta", "unreachable": "red",
    "dead": "red", "lost": "red", "waiting": "yellow",
    "up": "green", "down": "red", "done": "green", "failed": "red", "applying": "cyan",
}  # fmt: skip


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A compact table; columns whose name begins with ``#`` hold numbers. The last one wraps where it gets narrow."""
    made = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    for place, name in enumerate(columns, 1):
        justify: Literal["left", "right"] = "right" if name.startswith("#") else "left"
        made.add_column(name.removeprefix("#"), justify=justify, overflow="fold", no_wrap=place < len(columns))
    for row in rows:
        made.add_row(
            *(cell if isinstance(cell, Text) else Text("-" if cell in (None, "") else str(cell)) for cell in row)
        )
    return made


def show(*parts: Any) -> None:
    """Print tables to stdout; wide where there is no terminal to fit."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    for part in parts:
        console.print(part)


def state(word: str) -> Text:
    """A state in its colour."""
    return Text(word, STATES.get(word, ""))


def rate(eps: float | None) -> str:
    """Events per second, in as many digits as matter."""
    return "-" if eps is None else f"{eps:,.0f}" if eps >= 10 or eps == 0 else f"{eps:.1f}"  # noqa: PLR2004


def clock(time: str | None) -> str:
    """Hour, minute and second of a time."""
    return "-" if not time else time[11:19]


def sparkline(values: Sequence[float], width: int, highest: float) -> str:
    """So many bars, each the largest of its share of the values, ``highest`` the full height."""
    if not values or highest <= 0:
        return BARS[0] * min(width, len(values))
    width = min(width, len(values))
    shares = (values[len(values) * n // width : len(values) * (n + 1) // width] for n in range(width))
    return "".join(BARS[min(len(BARS) - 1, int(max(share) / highest * len(BARS)))] for share in shares)
