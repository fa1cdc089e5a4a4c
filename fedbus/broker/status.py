"""What an instance reports to its manager."""

from __future__ import annotations

import msgspec

from fedbus.broker.copy_effects import Request
from fedbus.broker.effects import Surveyed
from fedbus.broker.group import Group
from fedbus.broker.ledger import Ledgers
from fedbus.broker.sharing import Sharing, Unshared
from fedbus.broker.state import GroupLoss
from fedbus.ledger_record import Held


class GroupStatus(msgspec.Struct, frozen=True):
    """One group at one instance.

    ``backlog``: confirmed events not yet settled, at most. ``start``: the kind of its start, earliest, latest, ….
    ``dead_letters``: events given up since the start; ``order_breaks``: key slots whose former owner was not waited
    for any longer (rule 11). ``here``: whether this region is its home, which dispatches it, by the definition of
    ``term``; ``shared``: per region that may take it over what is settled here and not durable there yet (of the
    slowest instance): events (-1: nobody there follows), for how many milliseconds.
    """

    name: str
    filters: list[str]
    members: list[str]
    backlog: int
    outstanding: int
    redelivered: int
    start: str = "earliest"
    dead_letters: int = 0
    order_breaks: int = 0
    here: bool = True
    term: int = 0
    shared: dict[str, Unshared] = {}


class LedgerBacklog(msgspec.Struct, frozen=True):
    """How far a group is in one ledger served here: scanned to ``position`` of ``end``; ``in_flight`` events of it."""

    ledger: str
    position: int
    end: int
    in_flight: int


def ledger_backlogs(group: Group, ledgers: Ledgers) -> list[LedgerBacklog]:
    """Where a group stands, ledger by ledger."""
    in_flight: dict[str, int] = {}
    for portion in group.deliveries:
        events = sum(end - start for start, end in group.deliveries.unsettled(portion))
        in_flight[portion.ledger] = in_flight.get(portion.ledger, 0) + events
    return [
        LedgerBacklog(name, group.cursor.position(name, ledgers), ledgers.end(name), in_flight.get(name, 0))
        for name in ledgers.names()
    ]


def group_status(group: Group, ledgers: Ledgers, sharing: Sharing) -> GroupStatus:
    """What there is to say of a group now."""
    spec, outstanding = group.spec, group.settlement.outstanding
    backlog, redelivered = group.backlog(ledgers), group.deliveries.redelivered
    return GroupStatus(
        spec.name, spec.filters, group.members.names(), backlog, outstanding, redelivered, spec.start.kind,
        group.dead_letters.written, group.order_breaks, group.here, spec.home.term, sharing.unshared(group),
    )  # fmt: skip


class BrokerStatus(msgspec.Struct, frozen=True):
    """One instance.

    ``ledgers``: its ledgers with their confirmed ends; ``live``: filters of live subscriptions; ``links``: per origin
    ledger and filter how far it was scanned; ``failed``: why it stores nothing any more; ``topics_version``: of the
    policies in force; ``expired``: what groups lost to retention; ``expired_ledgers`` it serves no more, their copies
    may go; ``retained``: its closed ledgers, where a policy bounds sizes.
    ``held``: its copies, the open ledger among them; ``requests``: what it waits for from its manager; ``silent``:
    members of the open ledger that do not answer; ``link_topics``: by origin region and topic how old
    (ms) the newest event was when it came over a link, lately; ``geo_ledgers``: in which something waits for a second
    region.
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
    topics_version: int = 0
    expired: list[GroupLoss] = []
    expired_ledgers: list[str] = []
    retained: list[Surveyed] = []
    managed: bool = False
    held: list[Held] = []
    requests: list[Request] = []
    silent: list[str] = []
    link_topics: dict[str, dict[str, int]] = {}
    geo_ledgers: list[str] = []
