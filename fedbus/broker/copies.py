"""All ledgers of which this instance holds something besides the open one: what is appended to them, and their records.

A record from the store is obeyed when it comes and reported as held only once it is on disk: a ledger that is being
recovered takes no appends below its term from that moment on, also after a crash (protocol rules 5 and 8).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedbus.batch import Buffer
from fedbus.broker import copy_effects as c
from fedbus.broker import protocol as p
from fedbus.broker.copy import Copy
from fedbus.broker.effects import Send
from fedbus.broker.home import Home
from fedbus.broker.ledger import Ledgers
from fedbus.broker.on_disk import HeldRun, OnDisk
from fedbus.broker.record import Record
from fedbus.broker.replica_messages import RECORD_FRAMES
from fedbus.errors import ProtocolError
from fedbus.ledger_record import Held, LedgerRecord, Member

RETRY_NS = 1_000_000_000  # a copy whose disk refused is tried again


class Copies:
    """Copies by ledger."""

    def __init__(self, home: Home | None, ledgers: Ledgers) -> None:
        self.me: Member | None = home.member if home is not None else None
        self._ledgers = ledgers
        self._copies = {found.ledger: Copy(found.ledger, found) for found in (home.held if home is not None else ())}

    def __iter__(self) -> Iterator[Copy]:
        return iter(list(self._copies.values()))

    def get(self, ledger: str) -> Copy | None:
        """What is held of this ledger."""
        return self._copies.get(ledger)

    # -- records from the store ----------------------------------------------------------------------------------------

    def apply(self, record: LedgerRecord) -> None:
        """A record of a ledger that this instance is not writing: keep it, or let the ledger go."""
        copy = self._copies.get(record.id)
        known = copy is not None and copy.record is not None
        if copy is None:
            copy = Copy(record.id)
        if not copy.apply(record):
            return
        assert self.me is not None, "records concern managed instances"
        if _is_unwanted(record, self.me):
            if record.id in self._copies:
                del self._copies[record.id]
                self._ledgers.effects.append(c.DropLedger(record.id))
            return
        self._copies[record.id] = copy
        self._ledgers.effects.append(c.Note(record))
        assert known or record.id != self._ledgers.current, "the open ledger is no copy"

    def noted(self, ledger: str, version: int) -> None:
        """The record is on disk."""
        if (copy := self._copies.get(ledger)) is not None:
            copy.was_noted(version)

    def finished(self, record: LedgerRecord, end_number: int, end_offset: int) -> None:
        """The open ledger has been written to its end: from now on it is a copy like others."""
        run = HeldRun(0, 0, end_number, end_offset)
        self._copies[record.id] = Copy(
            record.id, OnDisk(ledger=record.id, record=record, runs=(run,), confirmed=end_number)
        )

    # -- appends -------------------------------------------------------------------------------------------------------

    def append(self, session: bytes, message: p.Append, frames: Sequence[Buffer], now_ns: int) -> None:
        """Records from a writer; raises :class:`ProtocolError`, and stores nothing, if they are not what it made."""
        copy = self._copies.get(message.ledger)
        refusal = refusal_of(message, copy, self.me, now_ns)
        if copy is None or refusal is not None:
            self._ledgers.effects.append(Send(session, refusal or p.AppendRefused(message.ledger, "unknown")))
            return
        records = proven(frames, copy.seed, message.number)
        copy.session = session
        copy.confirmed = max(copy.confirmed, message.confirmed)
        if not self._store(copy, records):
            self._ledgers.effects.append(Send(session, p.AppendRefused(message.ledger, "gap", _next_number(copy))))
            return
        if records and copy.end_of(records[-1].number) > records[-1].number:
            self._answer(copy, records[-1].number)  # all of it had been here

    def _store(self, copy: Copy, records: list[Record]) -> bool:
        effects = self._ledgers.effects
        for record in records:
            if not copy.add(record, effects):
                if copy.record is None or record.number != copy.record.last.first_number:
                    return False
                copy.begin_run(record, effects)
        return True

    def _answer(self, copy: Copy, number: int) -> None:
        """Tell the writer how far its records are on disk."""
        if copy.session is not None and (end := copy.end_of(number)):
            self._ledgers.effects.append(Send(copy.session, p.Appended(copy.ledger, end - 1)))

    # -- the disk ------------------------------------------------------------------------------------------------------

    def durable(self, ledger: str, number: int) -> None:
        """Records of a copy are on disk."""
        if (copy := self._copies.get(ledger)) is not None:
            copy.durable(number)
            copy.refusing = ""
            if copy.tail is not None and copy.tail.first_number <= number:
                self._answer(copy, number)

    def refused(self, ledger: str, detail: str, now_ns: int) -> None:
        """Records of a copy were not stored; it is tried again after a while."""
        if (copy := self._copies.get(ledger)) is not None:
            copy.refused()
            self._refuse(copy, detail, now_ns + RETRY_NS)

    def failed(self, ledger: str, detail: str) -> None:
        """A copy takes no writes any more."""
        if (copy := self._copies.get(ledger)) is not None:
            copy.refused()
            self._refuse(copy, detail, 1 << 63)

    def _refuse(self, copy: Copy, detail: str, retry_ns: int) -> None:
        copy.refusing, copy.retry_ns = detail, retry_ns
        if copy.session is not None:
            self._ledgers.effects.append(Send(copy.session, p.AppendRefused(copy.ledger, "failed", detail=detail)))

    def held(self) -> list[Held]:
        """What is durable here of each ledger of which a record was noted."""
        served = self._ledgers.closed
        return [copy.held(serving=copy.ledger in served) for copy in self if copy.noted is not None or copy.runs]


def proven(frames: Sequence[Buffer], seed: int, number: int) -> list[Record]:
    """The records in a message's frames, ascending from ``number`` on; raises :class:`ProtocolError` otherwise."""
    records: list[Record] = []
    for at in range(1, len(frames), RECORD_FRAMES):
        record = Record.proven(frames[at : at + RECORD_FRAMES], seed)
        if record is None or record.number < number:
            raise ProtocolError(f"record {number} of a copy was damaged on its way")
        records.append(record)
        number = record.number + 1
    return records


def refusal_of(append: p.Append, copy: Copy | None, me: Member | None, now_ns: int) -> p.AppendRefused | None:
    """Why nothing of it is taken."""
    if copy is None or copy.record is None:
        return p.AppendRefused(append.ledger, "unknown")
    if append.term < copy.record.term or copy.record.state != "OPEN":
        return p.AppendRefused(append.ledger, "fenced", detail=f"term {copy.record.term}, {copy.record.state}")
    if me not in copy.record.members:
        return p.AppendRefused(append.ledger, "unknown")
    if copy.refusing and now_ns < copy.retry_ns:
        return p.AppendRefused(append.ledger, "failed", detail=copy.refusing)
    return None


def _next_number(copy: Copy) -> int:
    """From where on the writer has to send."""
    first = copy.record.last.first_number if copy.record is not None else 0
    return max(first, copy.tail.next_number if copy.tail is not None else 0)


def _is_unwanted(record: LedgerRecord, me: Member) -> bool:
    """Whether nothing of it is to be here: others hold enough copies, or its retention has passed."""
    if record.state == "RECOVERING":
        return False
    named = me in record.members or me.instance == record.dispatcher
    return record.state == "EXPIRED" or not (named or (record.state == "OPEN" and me == record.writer))
