"""Recovery of a ledger whose writer is over (protocol rules 5 and 6): when it begins, and where the ledger ends.

A RECOVERING record with a higher term is the fence. The writer needs every member of the last fragment, so one that
has noted the term suffices; it has every acknowledged record, its unacknowledged tail included. Never ends below what
any reachable member knows to be confirmed: that would be damage, which waits and is visible.
"""

from __future__ import annotations

import msgspec

from fedbus.control.holders import Holder, Holders
from fedbus.ledger_record import Fragment, Held, LedgerRecord, Member
from fedbus.position import LedgerId


class End(msgspec.Struct, frozen=True):
    """Where a ledger ends: one past its last record, and one past its last event."""

    number: int
    offset: int


class Undecided(msgspec.Struct, frozen=True):
    """Why its end is not known yet; ``stuck``: until somebody who is away comes back, or an operator."""

    why: str
    stuck: bool


def is_over(record: LedgerRecord, holders: Holders) -> bool:
    """Whether the incarnation that writes an OPEN ledger is over: replaced, moved to another directory, or gone."""
    writer = holders.named(record.writer.instance)
    if writer is None or (writer.member.directory_uuid and writer.member != record.writer):
        return True
    if writer.from_epoch is not None and LedgerId.parse(record.id).epoch < writer.from_epoch:
        return True
    if writer.present and writer.writing and LedgerId.parse(record.id).epoch < LedgerId.parse(writer.writing).epoch:
        return True  # ended by the next (its request to close it may follow), or granted and never begun
    return holders.gone(writer)


def can_be_fenced(record: LedgerRecord, holders: Holders) -> bool:
    """Whether a member of its last fragment is there to note the fence."""
    return any((holder := holders.of(member)) is not None and holder.present for member in record.last.members)


def begun(record: LedgerRecord) -> LedgerRecord:
    """Its record once recovery has begun."""
    return msgspec.structs.replace(record, state="RECOVERING", term=record.term + 1)


def find_end(record: LedgerRecord, holders: Holders) -> End | Undecided:
    """The end of a RECOVERING ledger."""
    fenced: list[tuple[End, Held]] = []
    missing: list[Holder] = []
    for member in record.last.members:
        holder = holders.of(member)
        held = holder.held.get(record.id) if holder is not None else None
        if held is not None and held.term >= record.term:
            fenced.append((_end_of(held, record.last), held))
        elif holder is not None:
            missing.append(holder)
    if not fenced:
        away = not any(holder.present for holder in missing)
        return Undecided("no member of its last fragment has noted the fence", stuck=away)
    end, held = max(fenced, key=lambda each: each[0].number)
    confirmed = max((each.confirmed for _, each in holders.held(record)), default=0)
    if end.number < confirmed:
        return Undecided(
            f"damaged: {confirmed} records are known to be confirmed, but only {end.number} were found",
            stuck=not any(holder.present for holder in missing),
        )
    if held.torn and missing and len(record.last.members) > 1:
        return Undecided(
            "its longest copy has a torn tail: waiting for another member",
            stuck=not any(holder.present for holder in missing),
        )
    return end


def _end_of(held: Held, last: Fragment) -> End:
    """A member with nothing of the last fragment says that nothing there was acknowledged."""
    if held.end_number >= last.first_number:
        return End(held.end_number, held.end_offset)
    return End(last.first_number, last.first_offset)


def closed(record: LedgerRecord, end: End, now_ns: int) -> LedgerRecord:
    """Its record once it is CLOSED: who holds a part of it is to hold all of it, until enough others do."""
    members: tuple[Member, ...] = record.members
    return msgspec.structs.replace(
        record, state="CLOSED", end_number=end.number, end_offset=end.offset, closed_ns=now_ns,
        fragments=(Fragment(0, members),),
    )  # fmt: skip
