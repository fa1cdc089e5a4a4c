"""What instances ask of their manager (open, ensemble, close), and the answers: records for the store, or why not.

Every request may arrive twice, late, or at a manager that has just started: the same request gets the same answer.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fedbus.broker.copy_effects import Request
from fedbus.control.holders import Holder, Holders, LedgerView
from fedbus.control.ledger_recovery import End, Undecided, can_be_fenced, closed, find_end
from fedbus.errors import InvalidPositionError
from fedbus.ledger_record import Fragment, LedgerRecord, Member
from fedbus.position import LedgerId

MOST_FRAGMENTS = 8  # before the one that is being written


class Grant(msgspec.Struct, frozen=True):
    """The record that answers, and what the store has to do with it first."""

    record: LedgerRecord
    store: Literal["nothing", "add", "swap"] = "nothing"


class Later(msgspec.Struct, frozen=True):
    """Something has to happen first; the request is answered when it has."""

    detail: str


class Refusal(msgspec.Struct, frozen=True):
    """It cannot be done as things are; the instance goes on as before and asks again if it still needs to."""

    detail: str


Answer = Grant | Later | Refusal


def answer(view: LedgerView, instance: str, request: Request) -> Answer:
    """The answer to one request of ``instance`` (region/id)."""
    holders = Holders(view)
    if request.kind == "open":
        return _open(view, holders, instance, request)
    record = next((each for each in view.records if each.id == request.ledger), None)
    if record is None or record.writer.instance != instance:
        return Refusal(f"{request.ledger} is no ledger that {instance} writes")
    if record.state != "OPEN":
        return Grant(record)  # what became of it
    if request.kind == "ensemble":
        return _change_ensemble(view, holders, record, request)
    if request.kind == "close":
        if request.end_number < record.last.first_number:
            return Refusal(f"{record.id} cannot end at {request.end_number}, before its last fragment")
        return Grant(closed(record, End(request.end_number, request.end_offset), view.stamp_ns), "swap")
    return Refusal(f"{request.kind!r} is no request")


def _open(view: LedgerView, holders: Holders, instance: str, request: Request) -> Answer:
    writer = holders.named(instance)
    if writer is None or not writer.present or not writer.member.directory_uuid:
        return Later(f"{instance} has not reported yet")
    if writer.stage != "staying":
        return Refusal(f"{instance} is draining and opens no ledger")
    try:
        proposed = LedgerId.parse(request.ledger)
    except InvalidPositionError as error:
        return Refusal(error.detail)
    mine = {LedgerId.parse(each.id).epoch: each for each in view.records if each.writer.instance == instance}
    if not request.writing:
        former = [each for epoch, each in mine.items() if epoch < proposed.epoch and each.writer == writer.member]
        unfinished = [each.id for each in former if each.state in ("OPEN", "RECOVERING") and not _stuck(each, holders)]
        if unfinished:
            return Later(f"{', '.join(sorted(unfinished))} must be recovered first")
    given = [
        epoch
        for epoch, each in mine.items()
        if epoch >= proposed.epoch and each.state == "OPEN" and each.writer == writer.member
    ]
    if given:  # the question has come again (one whose directory is new proposes what others had before)
        return Grant(mine[max(given)])
    epoch = max([proposed.epoch, *(each + 1 for each in mine)])
    before = mine[max(mine)].last.members if mine else ()
    return _opened(view, holders, writer, epoch, before)


def _opened(
    view: LedgerView, holders: Holders, writer: Holder, epoch: int, before: tuple[Member, ...]
) -> Grant | Refusal:
    region, _, name = writer.name.partition("/")
    members = holders.best(holders.wanted, [writer.member], holders.strained_with(writer.name), before)
    if len(members) < view.settings.min_copies:
        return Refusal(_too_few(len(members), view))
    record = LedgerRecord(
        id=str(LedgerId(region, name, epoch)),
        writer=writer.member,
        fragments=(Fragment(0, members),),
        dispatcher=writer.name,
        dispatcher_uuid=writer.member.directory_uuid,
        created_ns=view.stamp_ns,
    )
    return Grant(record, "add")


def _stuck(record: LedgerRecord, holders: Holders) -> bool:
    """Whether it cannot be recovered as things are: what the instance goes on with must not wait for it."""
    if record.state == "OPEN":
        return not can_be_fenced(record, holders)
    end = find_end(record, holders)
    return isinstance(end, Undecided) and end.stuck


def _change_ensemble(view: LedgerView, holders: Holders, record: LedgerRecord, request: Request) -> Answer:
    if request.version < record.version:
        return Grant(record)  # it asks about an older one: maybe this is the answer already
    if request.first_number < record.last.first_number:
        return Refusal(f"{record.id}: {request.first_number} lies before its last fragment")
    members = next_ensemble(holders, record, request.silent)
    if len(members) < view.settings.min_copies:
        return Refusal(_too_few(len(members), view))
    # Also with the same members it is a new version: the writer stays frozen until it sees one.
    fragment = Fragment(request.first_number, members, request.first_offset)
    # Nothing was acknowledged in a fragment that begins where the new one does.
    before = record.fragments[:-1] if record.last.first_number == fragment.first_number else record.fragments
    return Grant(msgspec.structs.replace(record, fragments=(*_bounded(before), fragment)), "swap")


def _bounded(fragments: tuple[Fragment, ...]) -> tuple[Fragment, ...]:
    """Not more than a few: a member that comes and goes, its disk being full, would add to the record for ever.

    Of the newest ones that are over, those are named who hold all of them; the writer does.
    """
    kept, over = fragments[: MOST_FRAGMENTS - 1], fragments[MOST_FRAGMENTS - 1 :]
    if not over:
        return fragments
    members = tuple(member for member in over[0].members if all(member in each.members for each in over))
    return (*kept, msgspec.structs.replace(over[0], members=members))


def next_ensemble(holders: Holders, record: LedgerRecord, silent: tuple[str, ...] = ()) -> tuple[Member, ...]:
    """The members an OPEN ledger should have now: those that do, and others in the place of those that do not."""
    kept = [record.writer]
    kept += [
        member
        for member in record.last.members
        if member != record.writer and member.instance not in silent and holders.lasting(member) is not None
    ]
    avoid = holders.strained_with(record.writer.instance) | set(silent)
    return holders.best(holders.wanted, kept[: max(holders.wanted, 1)], avoid)


def _too_few(there: int, view: LedgerView) -> str:
    return f"under_replicated: {there} copies can be had now, min_copies is {view.settings.min_copies}"
