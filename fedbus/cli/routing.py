"""What ``fedbus status`` shows of the gateway's routing: what it expects of each instance, and its last reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from fedbus.cli.tables import state, table

if TYPE_CHECKING:
    from collections.abc import Iterator

REASONS_SHOWN = 3
COLUMNS = (
    "routing",
    "state",
    "#score ms",
    "#ping ms",
    "#publish ms",
    "#queue",
    "#in flight",
    "#share",
    "#slots",
    "note",
)


def routing_tables(items: list[dict[str, Any]]) -> Iterator[Any]:
    """A table per region that the gateway publishes to, why its last events went where they went, and failover."""
    for own in (each for each in items if each["told_by"] == "gateway"):
        routes = [each for each in own["routes"] if each["region"] == own["region"]]
        yield table("", COLUMNS, map(_route, routes))
        for why in own["reasons"][:REASONS_SHOWN]:
            yield Text(f"  {why}", style="dim")
        if len(own["failover"]) > 1:
            order = ", ".join(f"{region} ({own['predicted_ms'][region]:.0f} ms)" for region in own["failover"][1:])
            yield Text(f"  without any instance of {own['region']}: {order}", style="dim")


def _route(route: dict[str, Any]) -> tuple[object, ...]:
    measured = "" if route["measured"] else "not measured yet"
    return (
        route["instance"], state(route["state"]), _ms(route["score_ms"]), _ms(route["rtt_ms"]),
        _ms(route["publish_ms"]), f"{route['queue_share'] or 0:.0%}", route["in_flight"],
        f"{route['share'] or 0:.0%}", route["slots"],
        "silent" if route["suspect"] else route["ejected"] or measured,
    )  # fmt: skip


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"
