"""What an instance reports to its manager."""

from __future__ import annotations

import msgspec


class GroupStatus(msgspec.Struct, frozen=True):
    """One group at one instance. ``backlog``: confirmed events not yet settled, at most."""

    name: str
    filters: list[str]
    members: list[str]
    backlog: int
    outstanding: int
    redelivered: int


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
