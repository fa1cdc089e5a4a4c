"""The replication plan: from the ledger records, what instances hold, and how they are, to the next steps.

Declarative and repeatable: every step is a record to be compared-and-swapped in the store, or a word to a writer; the
same view gives the same plan, and a manager that is killed between two steps leaves a state from which the next one
goes on. The plan decides nothing alone: the compare-and-swap does (rule 22).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fedbus.control.copies import copies, merged, wants_review, with_enough_copies, without_surplus
from fedbus.control.dispatchers import succession
from fedbus.control.holders import Holder, Holders, LedgerView, Settings
from fedbus.control.ledger_recovery import Undecided, begun, can_be_fenced, closed, find_end, is_over
from fedbus.control.ledger_requests import Grant, Later, Refusal, answer
from fedbus.ledger_record import LedgerRecord

__all__ = [
    "Change",
    "Closing",
    "Grant",
    "Holder",
    "Later",
    "LedgerView",
    "Plan",
    "Refusal",
    "Review",
    "Settings",
    "answer",
    "plan",
    "to_push",
    "unfinished_drain",
]

Kind = Literal["recover", "close", "merge", "copy", "drop", "dispatch", "expire"]


class Change(msgspec.Struct, frozen=True):
    """Records for the store, all or none; each has the version at which it was read."""

    records: tuple[LedgerRecord, ...]
    kind: Kind
    reason: str


class Review(msgspec.Struct, frozen=True):
    """Let the writer ask for other members."""

    instance: str
    ledger: str


class Closing(msgspec.Struct, frozen=True):
    """Let the writer end its ledger: it is to go."""

    instance: str
    ledger: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The next steps.

    ``forgotten``: ledgers that have expired and of which nobody has files. ``waiting``: per ledger (or dispatcher) what
    nothing can be done about now; ``copies`` that can be reached, of ``wanted``; ``braked``: why silence is not acted
    upon.
    """

    changes: tuple[Change, ...] = ()
    forgotten: tuple[LedgerRecord, ...] = ()
    reviews: tuple[Review, ...] = ()
    closings: tuple[Closing, ...] = ()
    waiting: dict[str, str] = {}
    copies: dict[str, int] = {}
    wanted: int = 1
    braked: str = ""


def plan(view: LedgerView) -> Plan:
    """What to do next; at most one change of each record."""
    holders = Holders(view)
    draft = _Draft(view, holders)
    kept = [record for record in view.records if record.state != "EXPIRED"]
    for dispatcher in sorted({record.dispatcher for record in kept}):
        draft.pass_on(dispatcher)
    for record in kept:
        if record.state == "OPEN":
            draft.tend_open(record)
        elif record.state == "RECOVERING":
            draft.recover(record)
        else:
            draft.tend_closed(record)
    expired = (record for record in view.records if record.state == "EXPIRED")
    return Plan(
        changes=tuple(draft.changes),
        forgotten=tuple(record for record in expired if _left_no_trace(record, view)),
        reviews=tuple(draft.reviews),
        closings=tuple(draft.closings),
        waiting=draft.waiting,
        copies={record.id: copies(record, holders) for record in kept},
        wanted=holders.wanted,
        braked=holders.braked,
    )


class _Draft:
    """A plan in the making."""

    def __init__(self, view: LedgerView, holders: Holders) -> None:
        self._view, self._holders = view, holders
        self.changes: list[Change] = []
        self.reviews: list[Review] = []
        self.closings: list[Closing] = []
        self.waiting: dict[str, str] = {}
        self._touched: set[str] = set()
        self._orphaned: set[str] = set()

    def pass_on(self, dispatcher: str) -> None:
        """Hand what a dispatcher leaves behind to an heir."""
        step = succession(dispatcher, self._view.records, self._holders)
        if step is None:
            return
        self._orphaned.add(dispatcher)
        if step.waiting:
            self.waiting[dispatcher] = step.waiting
        if step.changes:
            moved = step.changes[0].dispatcher != dispatcher
            self._change("dispatch" if moved else "copy", step.reason, *step.changes)

    def tend_open(self, record: LedgerRecord) -> None:
        """Recover it if its writer is over; else see to its members."""
        writer = self._holders.of(record.writer)
        if is_over(record, self._holders):
            if can_be_fenced(record, self._holders):
                self._change("recover", "its writer is over", begun(record))
            else:
                self.waiting[record.id] = "unavailable: its writer is gone and no member of its last fragment is there"
            return
        after = merged(record, self._holders)
        if after is not None:
            self._change("merge", "its members hold all of it", after)
        if writer is None or not writer.present:
            return
        if writer.stage == "closing":
            self.closings.append(Closing(writer.name, record.id))
        elif wants_review(record, self._holders, self._view.settings.min_copies):
            self.reviews.append(Review(writer.name, record.id))

    def recover(self, record: LedgerRecord) -> None:
        """Close it where it ends, once that is known."""
        end = find_end(record, self._holders)
        if isinstance(end, Undecided):
            self.waiting[record.id] = end.why
        else:
            self._change("close", f"recovered, {end.number} records", closed(record, end, self._view.stamp_ns))

    def tend_closed(self, record: LedgerRecord) -> None:
        """Make copies, or drop what is too many."""
        dispatcher = self._holders.named(record.dispatcher)
        if dispatcher is not None and record.id in dispatcher.expired:
            self._change("expire", "retention has passed", msgspec.structs.replace(record, state="EXPIRED"))
        if record.id in self._touched or self._holders.braked:
            return
        if not self._holders.complete(record):
            self.waiting[record.id] = "no whole copy of it can be reached now"
        more = with_enough_copies(record, self._holders)
        if more is not None:
            self._change("copy", "too few copies", more)
        elif record.dispatcher not in self._orphaned:
            fewer = without_surplus(record, self._holders)
            if fewer is not None:
                self._change("drop", "enough others are complete", fewer)

    def _change(self, kind: Kind, reason: str, *records: LedgerRecord) -> None:
        self._touched.update(record.id for record in records)
        self.changes.append(Change(records, kind, reason))


def _left_no_trace(record: LedgerRecord, view: LedgerView) -> bool:
    """Whether every registered member has said that it has no files of it (any more)."""
    members = {member.instance for member in record.members}
    return all(
        record.id not in holder.held and (holder.present or holder.name not in members) for holder in view.holders
    )


def to_push(view: LedgerView) -> dict[str, list[LedgerRecord]]:
    """Per instance the records that concern it and whose newest version it has not noted yet."""
    pushes: dict[str, list[LedgerRecord]] = {}
    for holder in view.holders:
        news = [record for record in view.records if _concerns(record, holder) and not _noted(record, holder)]
        if news:
            pushes[holder.name] = news
    return pushes


def _concerns(record: LedgerRecord, holder: Holder) -> bool:
    if record.state == "OPEN" and record.writer == holder.member and holder.from_epoch is not None:
        return False  # it is told by the answer to its request: when all that it wrote before is closed
    return (
        holder.member in record.members
        or holder.member == record.writer
        or holder.name == record.dispatcher
        or record.id in holder.held
    )


def _noted(record: LedgerRecord, holder: Holder) -> bool:
    held = holder.held.get(record.id)
    if held is None:
        return record.state == "EXPIRED"
    return held.version >= record.version


def unfinished_drain(view: LedgerView, instance: str) -> str:
    """What still keeps a draining instance (region/id), in words; empty: nothing is lost if it stops (rule 21)."""
    holders = Holders(view)
    leaver = holders.named(instance)
    if leaver is None:
        return ""
    ensembles = [r.id for r in view.records if r.state in ("OPEN", "RECOVERING") and leaver.member in r.last.members]
    if ensembles:
        return f"still writes {', '.join(sorted(ensembles))}"
    alone = 0
    held = [each for each in view.records if leaver.member in each.members and each.state != "EXPIRED"]
    for record in held:
        others = [each for each in holders.complete(record) if holders.lasting(each.member) is not None]
        alone += record.state != "CLOSED" or len(others) < holders.possible
    if alone:
        return f"{len(held) - alone} of {len(held)} ledgers are complete elsewhere"
    dispatched = [record.id for record in view.records if record.dispatcher == instance and record.state != "EXPIRED"]
    return f"dispatches {len(dispatched)} ledgers" if dispatched else ""
