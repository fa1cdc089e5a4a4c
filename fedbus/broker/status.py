"""What an instance reports to its manager."""

from __future__ import annotations

import msgspec

from fedbus.broker.group import Group
from fedbus.broker.ledger import Ledgers


class GroupStatus(msgspec.Struct, frozen=True):
    """One group at one instance.

    ``backlog``: confirmed events not yet settled, at most. ``start``: the kind of its start, earliest, latest, ….
    """

    name: str
    filters: list[str]
    members: list[str]
    backlog: int
    outstanding: int
    redelivered: int
    start: str = "earliest"


def group_status(group: Group, ledgers: Ledgers) -> GroupStatus:
    """What there is to say of a group now."""
    spec, outstanding = group.spec, group.settlement.outstanding
    backlog, redelivered = group.backlog(ledgers), group.deliveries.redelivered
    return GroupStatus(
        spec.name, spec.filters, group.members.names(), backlog, outstanding, redelivered, spec.start.kind
    )


class BrokerStatus(msgspec.Struct, frozen=True):
    """One instance.

    ``ledgers``: its ledgers with their confirmed ends; ``live``: filters of live subscriptions; ``links``: per origin
    ledger and filter how far it was scanned; ``failed``: why it stores nothing any more.
    """

    instance: str
    ledger: str
    state: str
    ledgers: dict[str, int]
    groups: list[GroupStatus]
    live: list[str]
    links: dict[str, dict[str, int]]
    table_version: int
    counters: dict[str, int]
    failed: str = ""
