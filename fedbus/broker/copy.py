"""One ledger as this instance holds it: what is on disk, what is on its way there, and what its record says of it.

A copy is made of runs of records without gaps: what the writer appends, and what is fetched to fill the gap before it.
"""

from __future__ import annotations

from collections import deque

from fedbus.broker.copy_effects import WriteCopy
from fedbus.broker.effects import Effect
from fedbus.broker.on_disk import HeldRun, OnDisk
from fedbus.broker.record import Record, ledger_seed
from fedbus.ledger_record import Held, LedgerRecord, Member
from fedbus.ranges import Range, RangeSet


class Run:
    """Records ``[first_number, end_number)`` are on disk, those up to ``next_number`` on their way there."""

    __slots__ = ("end_number", "end_offset", "first_number", "flying", "next_number")

    def __init__(self, first_number: int, end_number: int, end_offset: int) -> None:
        self.first_number = first_number
        self.end_number = self.next_number = end_number
        self.end_offset = end_offset
        self.flying: deque[tuple[int, int]] = deque()  # (number, offset) one past each record under way

    def durable(self, number: int) -> None:
        """Everything up to and including ``number`` is on disk."""
        while self.flying and self.flying[0][0] <= number + 1:
            self.end_number, self.end_offset = self.flying.popleft()


class Copy:
    """One ledger. ``record``: the newest seen; ``noted``: the newest that is on disk beside the files."""

    def __init__(self, ledger: str, found: OnDisk | None = None) -> None:
        found = found or OnDisk(ledger=ledger)
        self.ledger = ledger
        self.seed = ledger_seed(ledger)
        self.record = self.noted = found.record
        self.runs = [_run(run) for run in found.runs]
        self.damaged = RangeSet(found.damaged)
        self.confirmed = found.confirmed
        self.torn = found.torn  # and nothing has been stored since
        self.session: bytes | None = None  # of the writer that appends
        self.refusing = ""  # why nothing can be stored
        self.retry_ns = 0

    # -- records of the ledger itself ----------------------------------------------------------------------------------

    def add(self, record: Record, effects: list[Effect]) -> bool:
        """Store it, unless it is here; False if it follows nothing that is here."""
        for run in self.runs:
            if run.first_number <= record.number < run.next_number:
                return True
            if record.number == run.next_number:
                self._write(run, record, effects)
                return True
        return False

    def begin_run(self, record: Record, effects: list[Effect]) -> None:
        """Store it as the first of a run."""
        run = Run(record.number, record.number, record.first_offset)
        self.runs.append(run)
        self.runs.sort(key=lambda each: each.first_number)
        self._write(run, record, effects)

    def _write(self, run: Run, record: Record, effects: list[Effect]) -> None:
        self.torn = self.torn and run is not self.tail
        run.next_number = record.number + 1
        run.flying.append((run.next_number, record.next_offset))
        self.confirmed = max(self.confirmed, record.confirmed)
        effects.append(WriteCopy(self.ledger, record))

    def durable(self, number: int) -> None:
        """Of the run with ``number`` everything up to it is on disk; runs that meet become one."""
        for run in self.runs:
            if run.first_number <= number < run.next_number:
                run.durable(number)
        joined: list[Run] = []
        for run in self.runs:
            if joined and joined[-1].end_number == joined[-1].next_number >= run.first_number:
                joined[-1].end_number, joined[-1].end_offset = run.end_number, run.end_offset
                joined[-1].next_number, joined[-1].flying = run.next_number, run.flying
            else:
                joined.append(run)
        self.runs = joined

    def refused(self) -> None:
        """What was on its way was not stored; of what was all the same, it does no harm to hand it over again."""
        for run in self.runs:
            run.next_number = run.end_number
            run.flying.clear()
        self.runs = [run for run in self.runs if run.next_number > run.first_number]

    def end_of(self, number: int) -> int:
        """One past what is on disk of the run that holds ``number`` (or ends there); 0 if none does."""
        return max((run.end_number for run in self.runs if run.first_number <= number <= run.next_number), default=0)

    @property
    def tail(self) -> Run | None:
        """The newest run."""
        return self.runs[-1] if self.runs else None

    # -- the record that the store has of it ---------------------------------------------------------------------------

    def apply(self, record: LedgerRecord) -> bool:
        """A record from the store; False if it is not newer than the one known."""
        if self.record is not None and (record.term, record.version) <= (self.record.term, self.record.version):
            return False
        self.record = record
        self.confirmed = max(self.confirmed, record.last.first_number, record.end_number or 0)
        if record.state != "OPEN":
            self.session = None  # its writer hears nothing any more, whatever was on its way to the disk
        return True

    def was_noted(self, version: int) -> None:
        """Its record is on disk in this version (and the copy cut, if the ledger is closed)."""
        record = self.record
        if record is None or record.version != version:
            return
        self.noted = record
        if record.state == "CLOSED" and record.end_number is not None:
            for run in self.runs:
                if run.next_number > record.end_number:
                    run.end_number = run.next_number = record.end_number
                    run.end_offset = record.end_offset or 0
                    run.flying.clear()
            self.runs = [run for run in self.runs if run.first_number < run.next_number]
            self.damaged.remove(record.end_number, self.damaged.low_water(record.end_number) + (1 << 62))

    @property
    def flying(self) -> bool:
        """Whether records are on their way to the disk that were fetched to fill a gap."""
        return any(run.flying for run in (self.runs[:-1] if self.session is not None else self.runs))

    @property
    def cut(self) -> bool:
        """Whether the ledger is closed and nothing beyond its end is here."""
        return self.noted is not None and self.noted.state == "CLOSED" and self.noted is self.record

    @property
    def whole(self) -> bool:
        """Whether all of a closed ledger is here (damaged records included) and nothing else."""
        end = self.record.end_number if self.record is not None else 0
        return self.cut and (not end or [(run.first_number, run.end_number) for run in self.runs] == [(0, end)])

    def missing(self, me: Member) -> Range | None:
        """The first record numbers that ``me`` should hold and that are not here."""
        at, end = 0, _wanted_end(self.record, me)
        for run in self.runs:
            if at < run.first_number:
                break
            at = max(at, run.next_number)
        beyond = min((run.first_number for run in self.runs if run.first_number > at), default=end)
        return (at, min(beyond, end)) if at < end else None

    def held(self, *, serving: bool) -> Held:
        """What is durable here."""
        record, tail = self.noted, self.tail
        return Held(
            ledger=self.ledger, version=record.version if record else 0, term=record.term if record else 0,
            first_number=tail.first_number if tail else 0, end_number=tail.end_number if tail else 0,
            end_offset=tail.end_offset if tail else 0, confirmed=self.confirmed, serving=serving,
            damaged=self.damaged.total(), cut=self.cut, torn=self.torn,
        )  # fmt: skip


def _run(found: HeldRun) -> Run:
    return Run(found.first_number, found.end_number, found.end_offset)


def _wanted_end(record: LedgerRecord | None, me: Member) -> int:
    """Up to where a member has to hold everything that is confirmed, apart from what is appended to it."""
    if record is None or record.state == "RECOVERING":
        return 0
    if record.state == "CLOSED":
        return (record.end_number or 0) if me in record.members or me.instance == record.dispatcher else 0
    if record.writer == me:
        return 0
    ends = [each.first_number for each in record.fragments[1:]] + [record.last.first_number]
    return max((end for each, end in zip(record.fragments, ends, strict=True) if me in each.members), default=0)
