"""Copies: which members an OPEN or CLOSED ledger should have, when a merge or a drop is safe, how many there are.

A member leaves a record only when as many complete copies as wanted are elsewhere and can be reached: an instance that
is not named any more deletes its files.
"""

from __future__ import annotations

import msgspec

from fedbus.control.holders import Holder, Holders
from fedbus.control.ledger_requests import next_ensemble
from fedbus.ledger_record import Fragment, LedgerRecord, Member


def with_members(record: LedgerRecord, members: tuple[Member, ...]) -> LedgerRecord:
    """A CLOSED (or merged) ledger with these members."""
    return msgspec.structs.replace(record, fragments=(Fragment(0, tuple(sorted(members))),))


def merged(record: LedgerRecord, holders: Holders) -> LedgerRecord | None:
    """An OPEN ledger with one fragment, once the members of its last one hold all of it; None while they do not."""
    last = record.last
    if len(record.fragments) == 1 or len(last.members) < holders.wanted:
        return None
    for member in last.members:
        if member == record.writer:
            continue
        holder = holders.of(member)
        held = holder.held.get(record.id) if holder is not None and holder.present else None
        if held is None or held.first_number != 0 or held.end_number < last.first_number or held.damaged:
            return None
    return msgspec.structs.replace(record, fragments=(Fragment(0, last.members),))


def wants_review(record: LedgerRecord, holders: Holders, min_copies: int) -> bool:
    """Whether the writer of an OPEN ledger should ask for other members."""
    members = record.last.members
    fit = [each for each in members if each == record.writer or holders.lasting(each) is not None]
    if len(fit) == len(members) and len(fit) >= holders.wanted:
        return False
    wanted = next_ensemble(holders, record)
    return set(wanted) != set(members) and len(wanted) >= min_copies


def with_enough_copies(record: LedgerRecord, holders: Holders) -> LedgerRecord | None:
    """A CLOSED ledger with more members, if too few of the present ones will stay; None if it has enough."""
    lasting = [each for each in record.members if holders.lasting(each) is not None]
    if len(lasting) >= holders.wanted:
        return None
    known = {member.instance for member in lasting}
    chosen = holders.best(holders.wanted, lasting)
    added = [member for member in chosen if member.instance not in known]
    return with_members(record, (*record.members, *added)) if added else None


def without_surplus(record: LedgerRecord, holders: Holders) -> LedgerRecord | None:
    """A CLOSED ledger without the members it does not need; None while they are needed.

    Needed are R complete copies that stay, the dispatcher's among them; whoever drains keeps its copy to the end.
    """
    complete = [each for each in holders.complete(record) if holders.lasting(each.member) is not None]
    if len(complete) < max(1, holders.wanted) or all(each.name != record.dispatcher for each in complete):
        return None
    kept = {each.member for each in _spread(record, complete, holders)}
    for member in record.members:
        holder = holders.of(member)
        if holder is not None and holder.stage != "staying":
            kept.add(member)
    return with_members(record, tuple(kept)) if kept < set(record.members) else None


def _spread(record: LedgerRecord, complete: list[Holder], holders: Holders) -> list[Holder]:
    """As many as wanted: the dispatcher, then one per node, then those with the fewest copies."""
    kept: list[Holder] = []
    left = list(complete)
    while left and len(kept) < max(1, holders.wanted):
        nodes = {holder.node for holder in kept}
        best = min(
            left, key=lambda each: (each.name != record.dispatcher, each.node in nodes, holders.load(each), each.name)
        )
        left.remove(best)
        kept.append(best)
    return kept


def copies(record: LedgerRecord, holders: Holders) -> int:
    """How many whole copies can be reached now."""
    if record.state == "CLOSED":
        return len(holders.complete(record))
    count = 0
    for member in record.last.members:
        holder = holders.of(member)
        if holder is None or not holder.present:
            continue
        held = holder.held.get(record.id)
        whole = held is not None and held.first_number == 0 and held.end_number >= record.last.first_number
        # A fragment from 0 says that whoever is in it holds all there is.
        count += member == record.writer or record.last.first_number == 0 or whole
    return count
