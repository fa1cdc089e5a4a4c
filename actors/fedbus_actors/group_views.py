"""What a manager tells people of a group: its definition, and what its instances report of it, JSON-ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.protocol import Start
from fedbus.broker.state import GroupExpired
from fedbus.broker.status import BrokerStatus, GroupStatus
from fedbus.event import format_time_ns
from fedbus.storage.store import StatusEntry
from fedbus_actors.group_registry import created_at_ns

_NS_PER_MS = 1_000_000


def group_view(spec: GroupSpec, region: str, statuses: Iterable[BrokerStatus], conflict: str = "") -> dict[str, Any]:
    """A group at a glance, over all instances of the region that is asked; what counts is what its home says.

    ``conflict``: what another region calls by its name.
    """
    known = list(statuses)
    parts = [group for status in known for group in status.groups if group.name == spec.name]
    options, home = spec.options, spec.home
    return {
        "group": spec.name,
        "filters": spec.filters,
        "region": home.region or region,
        "told_by": region,
        "scope": "federation" if home.region else "region",
        "standbys": home.standbys,
        "preferred": home.preferred,
        "term": home.term,
        "home_since": format_time_ns(home.since_ns) if home.since_ns else None,
        "unshared": _unshared(parts),
        "conflict": conflict,
        "start": start_text(spec.start),
        "created": format_time_ns(created_at_ns(spec)),
        "generation": spec.generation,
        "paused": options.paused,
        "ack_deadline_ms": options.ack_deadline_ms,
        "max_deliveries": options.max_deliveries,
        "dead_letter_topic": spec.dead_letter_topic,
        "max_in_flight": options.max_in_flight,
        "backoff_min_ms": options.backoff_min_ms,
        "backoff_max_ms": options.backoff_max_ms,
        "members": len({member for part in parts for member in part.members}),
        "backlog_events": sum(part.backlog for part in parts),
        "in_flight_events": sum(part.outstanding for part in parts),
        "redelivered_events": sum(part.redelivered for part in parts),
        "dead_letter_events": sum(part.dead_letters for part in parts),
        "expired_events": sum(loss.events for status in known for loss in status.expired if loss.group == spec.name),
        "order_breaks": sum(part.order_breaks for part in parts),
    }


def detail_view(
    spec: GroupSpec, region: str, statuses: Sequence[BrokerStatus], backlogs: Mapping[str, Any], conflict: str = ""
) -> dict[str, Any]:
    """The same with its part at every instance, and what it lost. ``backlogs``: by instance, or an exception."""
    instances = []
    for status in statuses:
        for part in status.groups:
            if part.name != spec.name:
                continue
            backlog = backlogs.get(status.instance, ())
            instances.append(
                {
                    "instance": status.instance,
                    "members": part.members,
                    "backlog_events": part.backlog,
                    "in_flight_events": part.outstanding,
                    "redelivered_events": part.redelivered,
                    "dead_letter_events": part.dead_letters,
                    "order_breaks": part.order_breaks,
                    "ledgers": [
                        {
                            "ledger": each.ledger,
                            "position": each.position,
                            "end": each.end,
                            "in_flight_events": each.in_flight,
                        }
                        for each in (() if isinstance(backlog, Exception) else backlog)
                    ],
                }
            )
    losses = [loss for status in statuses for loss in status.expired if loss.group == spec.name]
    expiries = sorted((each for loss in losses for each in loss.recent), key=lambda each: each.time_ms)
    return group_view(spec, region, statuses, conflict) | {
        "instances": instances,
        "expired": [_expiry_view(each) for each in expiries],
    }


def _unshared(parts: Iterable[GroupStatus]) -> list[dict[str, Any]]:
    """Per standby what is settled here and not known there; ``events`` null: nobody there follows some instance."""
    shared: dict[str, list[tuple[int, int]]] = {}
    for part in parts:
        for standby, unshared in part.shared.items():
            shared.setdefault(standby, []).append(unshared)
    return [
        {
            "region": standby,
            "events": None if any(events < 0 for events, _ in each) else sum(events for events, _ in each),
            "lag_ms": max(since_ms for _, since_ms in each),
        }
        for standby, each in sorted(shared.items())
    ]


def history_view(name: str, entries: Iterable[StatusEntry]) -> list[dict[str, Any]]:
    """What became of a group, by the region's status log; the newest first."""
    beginnings = (f"group {name}:", f"group {name} ")
    return [
        {"time": format_time_ns(entry.time_ns), "message": entry.message}
        for entry in entries
        if entry.message.startswith(beginnings)
    ]


def _expiry_view(expired: GroupExpired) -> dict[str, Any]:
    return {
        "ledger": expired.ledger,
        "events": expired.events,
        "time": format_time_ns(expired.time_ms * _NS_PER_MS),
        "ranges": [{"ledger": part.ledger, "ranges": part.ranges} for part in expired.ranges],
    }


def start_text(start: Start) -> str:
    """Where a group began, for people."""
    if start.kind == "time":
        return format_time_ns(start.time_ms * _NS_PER_MS)
    if start.kind == "cursor":
        return ", ".join(f"{ledger}:{offset}" for ledger, offset in sorted(start.cursor.items()))
    return start.kind
