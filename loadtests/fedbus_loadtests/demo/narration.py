"""The narration: what a spectator sees meanwhile. A live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedbus.clock import NS_PER_S, SystemClock
from fedbus_loadtests.demo.audit import Audit
from fedbus_loadtests.demo.region_state import RegionState

_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 160
#: What the other columns of the picture take.
_BESIDE = 60
NEARLY_FULL = 0.7
_STATE_STYLE = {"healthy": "green", "degraded": "yellow", "starting": "cyan", "draining": "blue"}


class Scene(msgspec.Struct):
    """What is to be seen at a moment; rates per simulated second."""

    phase: str
    simulated_ns: int
    speed: float
    url: str
    states: Mapping[str, RegionState]
    audit: Audit
    capacity_eps: float


class Narrator(Protocol):
    """Tells the story; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, line: str) -> None:
        """Something happened."""
        ...

    def show(self, scene: Scene) -> None:
        """So it looks now."""
        ...


class _Timed:
    def __init__(self, console: Console) -> None:
        self.console = console
        self._clock = SystemClock()
        self._began_ns = self._clock.monotonic_ns()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def stamped(self, line: str) -> str:
        """The line with the real seconds since the beginning."""
        return f"{(self._clock.monotonic_ns() - self._began_ns) / NS_PER_S:6.1f} s  {line}"


class PlainNarrator(_Timed):
    """One line per happening, and one with figures every few seconds."""

    FIGURES_EVERY_NS = 5 * NS_PER_S

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._figures_ns = 0

    def say(self, line: str) -> None:
        """Print it."""
        self.console.print(Text(self.stamped(line)), soft_wrap=True)

    def show(self, scene: Scene) -> None:
        """Print the figures if it is time to."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._figures_ns < self.FIGURES_EVERY_NS:
            return
        self._figures_ns = now_ns
        regions = "; ".join(
            f"{name} {_rate(state, 'load_eps')}/{_rate(state, 'capacity_eps')} ({len(state.serving)})"
            for name, state in scene.states.items()
        )
        self.say(f"{_time(scene.simulated_ns)} {scene.phase} | {_counters(scene.audit)} | load/capacity {regions}")


class LiveNarrator(_Timed):
    """A picture that is drawn anew a few times a second, below what has happened."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._points: dict[str, deque[tuple[float, float, float]]] = {}
        self._scene: Scene | None = None
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._picture, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print it above the picture."""
        self.console.print(Text(self.stamped(line)), soft_wrap=True)

    def show(self, scene: Scene) -> None:
        """Draw this from now on."""
        self._scene = scene
        for name, state in scene.states.items():
            region, expected = state.region, _expected(state)
            point = region.get("load_eps") or 0.0, expected or 0.0, region.get("capacity_eps") or 0.0
            self._points.setdefault(name, deque(maxlen=_COLUMNS)).append(point)

    def _picture(self) -> RenderableType:
        scene = self._scene
        if scene is None:
            return Text("starting …", style="dim")
        head = Text.assemble(
            ("fedbus demo ", "bold"), f"{_time(scene.simulated_ns)} (time × {scene.speed:.0f}) – {scene.phase}\n",
            ("dashboard ", "dim"), (f"{scene.url}/", "underline"),
            f"   declared capacity of an instance: {scene.capacity_eps:g} events/s of that clock",
        )  # fmt: skip
        return Group(head, self._regions(scene), Text(_counters(scene.audit), style="bold"))

    def _regions(self, scene: Scene) -> Table:
        table = Table(expand=True)
        for title in ("region", "instances", ""):
            table.add_column(title, no_wrap=True)
        table.add_column("events/s", justify="right", no_wrap=True)
        table.add_column("lately", no_wrap=True, ratio=1)
        for name, state in scene.states.items():
            dots = Text()
            for each in state.instances:
                dots.append("● ", _STATE_STYLE.get(each["state"], "red"))
            expected = _expected(state)
            figures = (
                _rate(state, "load_eps"),
                "–" if expected is None else f"{expected:.2f}",
                _rate(state, "capacity_eps"),
            )
            table.add_row(
                name,
                dots,
                "load\nexpected\ncapacity",
                "\n".join(figures),
                _chart(list(self._points.get(name, ()))[-max(10, self.console.width - _BESIDE) :]),
            )
        return table


def narrator(console: Console, *, plain: bool) -> Narrator:
    """A picture on a terminal, lines elsewhere or if ``plain``."""
    return LiveNarrator(console) if console.is_terminal and not plain else PlainNarrator(console)


def _chart(points: Sequence[tuple[float, float, float]]) -> Text:
    """Load, forecast and capacity as three rows of bars on one scale; load in red where it exceeds the capacity."""
    rows = [Text(), Text(), Text()]
    top = max((max(point) for point in points), default=0.0) or 1.0
    for load, expected, capacity in points:
        fill = "red" if load > capacity else "yellow" if load > NEARLY_FULL * capacity else "green"
        for row, value, style in zip(rows, (load, expected, capacity), (fill, "cyan", "dim"), strict=True):
            row.append(_BARS[min(len(_BARS) - 1, int(value / top * len(_BARS)))], style)
    return Text("\n").join(rows)


def _rate(state: RegionState, name: str) -> str:
    return f"{state.region.get(name) or 0.0:.2f}"


def _expected(state: RegionState) -> float | None:
    """The highest mean of the forecast."""
    band = state.forecast.get("forecast") or ()
    return max((each[1] for each in band), default=None)


def _counters(audit: Audit) -> str:
    return (
        f"published {audit.published:,}, acknowledged {audit.acknowledged:,}, delivered {audit.delivered_total:,}, "
        f"under way {audit.missing:,}, duplicates {audit.duplicates:,}"
    )


def _time(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // NS_PER_S, UTC):%Y-%m-%d %H:%M}"
