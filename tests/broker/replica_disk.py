"""A simulated directory that holds an open ledger and copies: what is synced survives, what is queued may not."""

from __future__ import annotations

from collections.abc import Iterator

from fedbus.broker import copy_effects as c
from fedbus.broker import effects as e
from fedbus.broker.on_disk import HeldRun, OnDisk
from fedbus.broker.record import Kind, Record
from fedbus.ledger_record import LedgerRecord

Command = e.Write | e.RollSegment | c.BeginLedger | c.WriteCopy | c.Note | c.Repair | c.DropLedger


class ReplicaDisk:
    """``ledgers``: record number → record, of each ledger; ``damaged`` ones cannot be read back."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.ledgers: dict[str, dict[int, Record]] = {}
        self.notes: dict[str, LedgerRecord] = {}
        self.queue: list[Command] = []
        self.open = ""
        self.generation = 0
        self.full = False
        self.failed = False
        self.damaged: set[tuple[str, int]] = set()
        self._refused: set[tuple[str, int]] = set()  # of copies: what has to come again

    # -- writing -------------------------------------------------------------------------------------------------------

    def commit(self, most: int) -> list[e.Input]:
        """One group commit of up to ``most`` commands; the answers."""
        group, self.queue = self.queue[:most], self.queue[most:]
        answers: list[e.Input] = []
        again: list[Command] = []
        for command in group:
            answer = self._do(command)
            if answer is None:
                again.append(command)
            else:
                answers += answer
        self.queue = again + self.queue
        return _grouped(answers)

    def _do(self, command: Command) -> list[e.Input] | None:
        """The answers to one command; ``None``: it has to be done again."""
        match command:
            case e.Write(record, generation):
                return self._write(record, generation)
            case c.WriteCopy(ledger, record):
                return self._write_copy(ledger, record)
            case c.BeginLedger(ledger):
                if self.full or self.failed:
                    return [c.BeginRefused(ledger, "disk full")]
                assert ledger not in self.ledgers, f"V3: {ledger} is begun for the second time"
                self.ledgers[ledger] = {}
                self.open = ledger
                return [c.LedgerBegun(ledger)]
            case c.Note(record):
                return None if self.full or self.failed else [self.note(record)]
            case c.Repair(ledger, records):
                self.damaged -= {(ledger, record.number) for record in records}
                return [self.scrub(ledger)]
            case c.DropLedger(ledger):
                self.ledgers.pop(ledger, None)
                self.notes.pop(ledger, None)
        return []

    def _write(self, record: Record, generation: int) -> list[e.Input]:
        if generation != self.generation:
            return []
        if self.failed:
            return [e.WriteFailed("i/o error")]
        if self.full:
            self.generation += 1
            return [e.WriteRefused(record.number, "disk full", generation)]
        records = self.ledgers[self.open]
        assert record.number == len(records), f"{record} does not follow {len(records)}"
        records[record.number] = record
        return [e.Durable(record.number, generation)]

    def _write_copy(self, ledger: str, record: Record) -> list[e.Input]:
        if self.failed:
            return [c.CopyFailed(ledger, "i/o error")]
        records = self.ledgers.setdefault(ledger, {})
        number = record.number
        behind = (ledger, number - 1) in self._refused and number - 1 not in records
        if behind or (self.full and number not in records):
            self._refused.add((ledger, number))
            return [c.CopyRefused(ledger, number, "disk full")]
        self._refused.discard((ledger, number))
        known = records.setdefault(record.number, record)
        assert same(known, record), f"V3: {ledger} #{record.number} is {known} and {record}"
        return [c.CopyDurable(ledger, record.number)]

    def note(self, record: LedgerRecord) -> e.Input:
        known = self.notes.get(record.id)
        if known is None or known.version < record.version:
            self.notes[record.id] = record
            if record.state == "CLOSED" and record.end_number is not None:
                self.cut(record.id, record.end_number)
        return c.Noted(record.id, record.version)

    def cut(self, ledger: str, end_number: int) -> None:
        records = self.ledgers.get(ledger, {})
        self.ledgers[ledger] = {number: record for number, record in records.items() if number < end_number}

    def crash(self, survivors: int) -> None:
        """Lose what was not synced, except for the first ``survivors`` of it."""
        for command in self.queue[:survivors]:
            if not self.failed and not self.full:
                self._do(command)
        self.queue = []
        self.generation = 0
        self.failed = False
        self._refused = set()
        self.open = ""

    # -- what is there -------------------------------------------------------------------------------------------------

    def found(self) -> list[OnDisk]:
        """As the shell finds it at start."""
        return [
            OnDisk(
                ledger=ledger, record=self.notes.get(ledger), runs=tuple(self._runs(records)),
                confirmed=max((record.confirmed for record in records.values()), default=0),
            )
            for ledger, records in sorted((self.ledgers | {name: {} for name in self.notes} | self.ledgers).items())
        ]  # fmt: skip

    def _runs(self, records: dict[int, Record]) -> Iterator[HeldRun]:
        numbers = sorted(records)
        starts = [n for n in numbers if n - 1 not in records]
        for start in starts:
            end = start
            while end in records:
                end += 1
            yield HeldRun(start, records[start].first_offset, end, records[end - 1].next_offset)

    def scrub(self, ledger: str) -> e.Input:
        numbers = sorted(n for name, n in self.damaged if name == ledger and n in self.ledgers.get(ledger, {}))
        return c.Scrubbed(ledger, [(n, n + 1) for n in numbers])

    def state(self, ledgers: list[str]) -> list[tuple[str, Record]]:
        """As the shell answers ``ReadState``: from the newest snapshot on."""
        every = [
            (name, self.ledgers.get(name, {})[n])
            for name in ledgers
            for n in sorted(self.ledgers.get(name, {}))
            if (name, n) not in self.damaged
        ]
        start = max((at for at, (_, record) in enumerate(every) if record.kind is Kind.SNAPSHOT), default=0)
        return every[start:]

    def end_offset(self, ledger: str) -> int:
        records = self.ledgers.get(ledger, {})
        return records[max(records)].next_offset if records else 0

    def read(self, read: e.Read) -> list[e.Input]:
        """As ``LedgerReader.read``; damage that is met is reported."""
        found: list[Record] = []
        at, damaged, size = read.offset, 0, 0
        records = self.ledgers.get(read.ledger, {})
        for number in sorted(records):
            record = records[number]
            if record.kind is not Kind.EVENTS or record.next_offset <= at or (read.ledger, number) in self.damaged:
                continue
            if found and size + record.size_bytes > read.max_bytes:
                return [e.Records(read.token, found, at, damaged), *([self.scrub(read.ledger)] if damaged else [])]
            damaged += max(record.first_offset - at, 0)
            at = record.next_offset
            size += record.size_bytes
            found.append(record)
        end = self.end_offset(read.ledger)
        damaged += max(0, end - at)
        return [e.Records(read.token, found, max(at, end), damaged), *([self.scrub(read.ledger)] if damaged else [])]

    def read_raw(self, read: c.ReadRaw) -> e.Input:
        records = self.ledgers.get(read.ledger, {})
        found: list[Record] = []
        number, size = read.number, 0
        while number in records and (not found or size < read.max_bytes):
            if (read.ledger, number) not in self.damaged:
                found.append(records[number])
                size += records[number].size_bytes
            number += 1
        return c.RawRecords(read.token, found, number)


def same(one: Record, other: Record) -> bool:
    """Whether two records are the same, byte for byte."""
    return [bytes(part) for part in one.buffers(0)] == [bytes(part) for part in other.buffers(0)]


def _grouped(answers: list[e.Input]) -> list[e.Input]:
    """Of consecutive records that became durable the last is named."""
    kept: list[e.Input] = []
    for answer in answers:
        before = kept[-1] if kept else None
        follows = (isinstance(answer, e.Durable) and isinstance(before, e.Durable)) or (
            isinstance(answer, c.CopyDurable) and isinstance(before, c.CopyDurable)
            and (answer.ledger, answer.number) == (before.ledger, before.number + 1)
        )  # fmt: skip
        if follows:
            kept[-1] = answer
        else:
            kept.append(answer)
    return kept
