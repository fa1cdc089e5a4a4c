"""Judge: an owner's word on earlier tries of batches that another instance withholds (protocol rule 10).

What was stored is found in the dedup window of the ledger's writer. What was not will never be: that promise is
recorded before it is given, unless the writer is gone for good (then nothing can arrive there any more).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fedbus.broker import protocol as p
from fedbus.broker.dedup import UNRECORDED, DedupWindows, Rejection
from fedbus.broker.effects import Send
from fedbus.broker.ledger import Ledgers
from fedbus.broker.record import EventsMeta, Kind, encode_body
from fedbus.errors import NotFoundError, SequenceError, TooLargeError, UnavailableError
from fedbus.position import LedgerId

MAX_TRIES = 1024  # of one question
NO_RECORD = -1


class Judge:
    """One instance's, over the windows of all writers whose ledgers it serves; ``writer``: itself."""

    def __init__(self, writer: str, ledgers: Ledgers, dedup: DedupWindows) -> None:
        self.writer = writer
        self._ledgers = ledgers
        self._dedup = dedup
        self.lacking: Callable[[], list[str]] = list  # ledgers to be served that are not folded in yet

    def serves(self, ledger: str) -> bool:
        """Whether this instance can say what is in that ledger; the window outlives a ledger that expired.

        That it bears the writer's name is not enough: it may have come back without its disk. Nor is that it serves
        this one: a batch may have arrived just after a roll, in a later one.
        """
        retired = self._ledgers.retired
        if ledger not in self._ledgers.names() and ledger not in retired:
            return False
        named = LedgerId.parse(ledger)
        lacking = (LedgerId.parse(name) for name in self.lacking() if name not in retired)
        return not any(each[:2] == named[:2] and each > named for each in lacking)

    def certain(self, ledger: str) -> bool:
        """Whether what is not found there was not stored there either."""
        return self.serves(ledger) and not self._dedup.has_gap(ledger)

    def answer(self, session: bytes, request: p.Reject, now_ns: int) -> None:
        """Answer another instance, once that is durable; raises a typed error if it cannot."""
        if len(request.tries) > MAX_TRIES:
            raise TooLargeError(f"one question is about up to {MAX_TRIES} tries")
        if not self.serves(request.ledger):
            raise NotFoundError(f"ledger {request.ledger} is not served here")
        if not self._ledgers.writable:  # some of its former ledgers may still have to be recovered
            raise UnavailableError(f"instance {self.writer} has no open ledger now: ask again")
        fates, number = self.judge(request.ledger, request.tries, now_ns)
        self._ledgers.answer_when_confirmed(number, Send(session, p.Judged(request.request, fates)))

    def judge(self, ledger: str, tries: list[p.Try], now_ns: int) -> tuple[list[int], int]:
        """The fates of these tries, and the record that has to be durable before anybody acts on them."""
        fates: list[int] = []
        promises: list[tuple[p.Try, Rejection]] = []
        number = NO_RECORD
        window = self._dedup.of(ledger)
        for each in tries:
            try:
                entry = window.seen(each.producer, each.sequence)
            except SequenceError:
                fates.append(p.FORGOTTEN)
                continue
            if entry is not None and entry.attempt < each.below:
                waits = self._ledgers.geo.holding(self._dedup.ledger(entry), entry.first_offset) is not None
                fates.append(p.WAITING if waits else p.STORED)
                if self._dedup.ledger(entry) == self._ledgers.current:
                    number = max(number, entry.number)
                continue
            if self._dedup.has_gap(ledger):
                fates.append(p.FORGOTTEN)
                continue
            fates.append(p.NOT_STORED)
            if ledger.rpartition("/")[0] == self.writer:
                promise = window.reject(each.producer, each.sequence, each.below)
                number = max(number, promise.number)
                if promise.number == UNRECORDED:
                    promises.append((each, promise))
        if promises:
            body = encode_body([each for each, _ in promises])
            number = self._ledgers.append(Kind.REJECTED, now_ns, payload=body).number
            for _, promise in promises:
                promise.number = number
        return fates, number

    def implied(self, meta: EventsMeta, number: int) -> None:
        """A batch was stored that names earlier tries of its events in own ledgers: none of them is stored any more."""
        for tried in meta.tried:
            if tried.ledger.rpartition("/")[0] == self.writer:
                self._dedup.own.reject(meta.producer, tried.sequence, meta.attempt).number = number

    def fold(self, ledger: str, tries: Iterable[p.Try]) -> None:
        """Recovery: promises found in a record of this ledger."""
        for each in tries:
            self._dedup.of(ledger).reject(each.producer, each.sequence, each.below).number = NO_RECORD
