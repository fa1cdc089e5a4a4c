"""The summary: what came of a demonstration, in figures, and whether it may be called a success. Pure but for rich."""

from __future__ import annotations

import msgspec
from rich.console import Group
from rich.table import Table

from fedbus_loadtests.demo.accuracy import Accuracy
from fedbus_loadtests.demo.audit import GroupCount, Percentiles


class Failover(msgspec.Struct, frozen=True):
    """The instance killed on purpose: what publishers of its region felt, and when it served again."""

    region: str
    instance: str
    siblings: int
    next_ack_ms: float | None
    longest_wait_ms: float | None
    back_s: float | None


class ScaleOut(msgspec.Struct, frozen=True):
    """A scale-out, and how long (real seconds) before the load's peak it was in service (None: it never was)."""

    region: str
    cause: str
    reason: str
    before_peak_s: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All figures; ``problems`` is empty if no acknowledged event was lost and the whole story happened."""

    load: str
    speed: float
    scale: float
    capacity_eps: float
    published: int
    acknowledged: int
    unknown: int
    groups: dict[str, GroupCount]
    delivered: int
    lost: int
    duplicates: int
    publish: Percentiles | None
    delivery: Percentiles | None
    forecast: Accuracy | None
    first_scale_out: ScaleOut | None
    scaled_ahead: ScaleOut | None
    scaled_in: str | None
    directives: dict[str, int]
    failover: Failover | None
    start_s: dict[str, float]
    flowing_after_s: float | None
    replay_s: float
    troubles: list[str] = []

    @property
    def problems(self) -> list[str]:
        """What must not be, in sentences."""
        found = []
        if not self.acknowledged:
            found.append("no event was acknowledged")
        for name, group in self.groups.items():
            if group.lost:
                found.append(f"{group.lost} acknowledged events did not reach {name}")
        if self.first_scale_out is not None and self.first_scale_out.cause != "forecast":
            first = self.first_scale_out
            found.append(f"the first scale-out, in {first.region}, was ordered by {first.cause}, not by the forecast")
        if self.scaled_ahead is None:
            found.append("no scale-out ordered by the forecast was in service before the load's peak")
        if self.failover is None:
            found.append("no instance was killed")
        elif self.failover.next_ack_ms is None:
            found.append(
                f"nothing was acknowledged in {self.failover.region} after {self.failover.instance} was killed"
            )
        elif self.failover.back_s is None:
            found.append(f"{self.failover.instance} did not come back")
        if self.scaled_in is None:
            found.append("no scale-in was carried out after the peak")
        return found

    def as_json(self) -> bytes:
        """One object for machines, the verdict included."""
        problems = self.problems
        return msgspec.json.encode(msgspec.to_builtins(self) | {"ok": not problems, "problems": problems})

    def as_table(self) -> Group:
        """For people."""
        table = Table(title="fedbus demo: summary", title_justify="left", show_header=False, min_width=76)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in self._rows():
            table.add_row(name, value)
        problems = self.problems
        verdict = ["[bold green]the whole story happened, and no acknowledged event was lost[/]"]
        return Group(table, *([f"[bold red]✗ {problem}[/]" for problem in problems] or verdict))

    def _rows(self) -> list[tuple[str, str]]:
        lost = "[bold green]0[/]" if not self.lost else f"[bold red]{self.lost}[/]"
        rows = [
            ("load", f"{self.load}, {self.speed:.0f} × as fast, {self.scale:.3g} × as much"),
            ("published", f"{self.published:,}, {self.acknowledged:,} acknowledged, {self.unknown:,} not known to be"),
            ("delivered", ", ".join(f"{name} {g.delivered:,}" for name, g in self.groups.items())),
            ("lost", lost),
            ("duplicates", f"{self.duplicates:,} (at least once: after a failure events come again)"),
            ("publish → ack", _latency(self.publish)),
            ("publish → delivered", _latency(self.delivery)),
            ("forecast vs actual", _accuracy(self.forecast)),
            ("first scale-out", _scale_out(self.first_scale_out)),
            (
                "ordered ahead",
                "the same" if self.scaled_ahead == self.first_scale_out else _scale_out(self.scaled_ahead),
            ),
            ("failover", _failover(self.failover)),
            ("scale-in", self.scaled_in or "none"),
            ("directives applied", ", ".join(f"{cause} {n}" for cause, n in self.directives.items()) or "none"),
            ("start-up", _start(self.start_s, self.flowing_after_s)),
        ]
        return rows + [("trouble on the way", trouble) for trouble in self.troubles[:5]]


def _latency(found: Percentiles | None) -> str:
    return (
        "–" if found is None else f"p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms, worst {found.worst_ms:.0f} ms"
    )


def _accuracy(found: Accuracy | None) -> str:
    if found is None:
        return "no slot could be compared"
    mase = f", MASE {found.mase:.2f} against seasonal naive" if found.mase is not None else ""
    below = f"{found.below_quantile_pct:.0f} % of {found.slots} slots below the quantile"
    return f"WAPE {found.wape_pct:.1f} %{mase}; {below} ({', '.join(found.models)})"


def _scale_out(found: ScaleOut | None) -> str:
    if found is None:
        return "none"
    served = "never" if found.before_peak_s is None else f"{found.before_peak_s:.0f} s before the peak"
    return f"{found.region}, by {found.cause}, in service {served}: {found.reason}"


def _failover(found: Failover | None) -> str:
    if found is None:
        return "none"
    waited = "–" if found.longest_wait_ms is None else f"{found.longest_wait_ms:.0f} ms"
    next_ack = "–" if found.next_ack_ms is None else f"{found.next_ack_ms:.0f} ms"
    back = "did not come back" if found.back_s is None else f"back after {found.back_s:.1f} s"
    return f"{found.instance} killed (-9): next event acknowledged after {next_ack}, longest wait {waited}; {back}"


def _start(parts: dict[str, float], flowing_after_s: float | None) -> str:
    split = ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())
    flowing = "–" if flowing_after_s is None else f"{flowing_after_s:.1f} s"
    return f"events flowed {flowing} after the command ({split})"
