"""Dispatchers: who hands a ledger's events to groups and links, and when that may change (protocol rule 14).

A dispatcher's acknowledgements are records of the ledgers it wrote. So its ledgers pass on when all it wrote are
CLOSED, all together, to one heir that holds them complete; until then nobody dispatches them.
"""

from __future__ import annotations

import msgspec

from fedbus.control.copies import with_members
from fedbus.control.holders import Holder, Holders
from fedbus.ledger_record import LedgerRecord
from fedbus.position import LedgerId


class Succession(msgspec.Struct, frozen=True):
    """What to do about one dispatcher: records to change (together), or what is waited for."""

    changes: tuple[LedgerRecord, ...] = ()
    waiting: str = ""
    reason: str = ""


def succession(dispatcher: str, records: tuple[LedgerRecord, ...], holders: Holders) -> Succession | None:
    """The next step in passing on what ``dispatcher`` can dispatch no more; None if it can."""
    holder = holders.named(dispatcher)
    records = tuple(each for each in records if each.state != "EXPIRED")
    mine = [each for each in records if each.dispatcher == dispatcher]
    if holder is None or holder.stage == "closing" or holders.gone(holder):
        orphans, written = mine, [each for each in records if each.writer.instance == dispatcher]
    elif holder.member.directory_uuid:
        # It came back without its directory: what it had it cannot serve; what it writes now has nothing to do with it.
        uuid = holder.member.directory_uuid
        orphans = [
            each
            for each in mine
            if each.state == "CLOSED" and (holder.member not in each.members or each.dispatcher_uuid not in ("", uuid))
        ]
        strangers = [each for each in records if each.writer.instance == dispatcher and each.writer != holder.member]
        written = strangers if orphans else []
    else:
        orphans, written = [], []
    if not orphans:
        return None
    unfinished = sorted(each.id for each in written if each.state != "CLOSED")
    if unfinished:
        return Succession(waiting=f"{dispatcher} passes on nothing before {', '.join(unfinished)} is closed")
    return _pass_on(dispatcher, orphans, written, holders)


def _pass_on(dispatcher: str, orphans: list[LedgerRecord], written: list[LedgerRecord], holders: Holders) -> Succession:
    at_hand = sorted((each for each in orphans if _at_hand(each, holders)), key=_age)
    newest = max(written, key=_age, default=None)
    if newest is not None and newest.dispatcher == dispatcher and newest not in at_hand:
        return Succession(waiting=f"nobody present holds {newest.id}, the newest that {dispatcher} wrote")
    if not at_hand:
        return Succession(waiting=f"nobody present holds what {dispatcher} dispatched")
    complete = {each.id: _able(each, holders) for each in at_hand}

    def rank(heir: Holder) -> tuple[int, int, int, str]:
        held = sum(heir.name in complete[each.id] for each in at_hand)
        member = sum(heir.member in each.members for each in at_hand)
        return (-held, -member, holders.load(heir), heir.name)

    heir = min(holders.heirs(besides=dispatcher), key=rank, default=None)
    if heir is None:
        return Succession(waiting=f"there is no other instance for what {dispatcher} dispatched")
    missing = [each for each in at_hand if heir.name not in complete[each.id]]
    if not missing:
        uuid = heir.member.directory_uuid
        moved = tuple(msgspec.structs.replace(each, dispatcher=heir.name, dispatcher_uuid=uuid) for each in at_hand)
        return Succession(moved, reason=f"{heir.name} dispatches for {dispatcher} from now on")
    joining = tuple(with_members(each, (*each.members, heir.member)) for each in missing if not _named(heir, each))
    return Succession(
        joining,
        waiting=f"{heir.name} fetches {', '.join(each.id for each in missing)}",
        reason=f"{heir.name} is to dispatch it",
    )


def _able(record: LedgerRecord, holders: Holders) -> set[str]:
    """Who can hand it out: whoever has all of it.

    If nobody has, nor is expected back: whoever has it with damage. One record must not keep all others from everybody.
    """
    whole = {holder.name for holder in holders.complete(record)}
    members = [holders.of(member) for member in record.members]
    if whole or any(each is not None and not each.present and not holders.gone(each) for each in members):
        return whole
    return {
        holder.name
        for holder, held in holders.held(record)
        if holder.present and held.first_number == 0 and held.end_number == record.end_number
    }


def _named(heir: Holder, record: LedgerRecord) -> bool:
    return heir.member in record.members


def _at_hand(record: LedgerRecord, holders: Holders) -> bool:
    """Whether a whole copy can be reached, or may be had soon from members that stay."""
    return bool(holders.complete(record)) or any(
        (holder := holders.lasting(member)) is not None and holder.present and holder.name != record.dispatcher
        for member in record.members
    )


def _age(record: LedgerRecord) -> tuple[int, str, int]:
    ledger = LedgerId.parse(record.id)
    return (record.created_ns, ledger.instance, ledger.epoch)
