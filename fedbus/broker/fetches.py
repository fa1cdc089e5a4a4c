"""What this instance lacks of its copies, and where it gets it: gaps are filled, damage is repaired, by other holders.

One question per ledger is under way, a few in all; a holder that does not answer, or does not have it, is followed by
the next. What comes is proven before it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import msgspec

from fedbus.batch import Buffer
from fedbus.broker import copy_effects as c
from fedbus.broker import protocol as p
from fedbus.broker.copies import Copies, proven
from fedbus.broker.copy import Copy
from fedbus.broker.ledger import Ledgers
from fedbus.broker.peers import Peers
from fedbus.broker.record import Record, ledger_seed
from fedbus.ledger_record import LedgerRecord
from fedbus.ranges import Range, RangeSet

AT_ONCE = 4
ANSWER_NS = 1_000_000_000
REPAIR_NS = 30_000_000_000  # a repair is waited for no longer
AGAIN_NS = 2_000_000_000  # all holders were asked in vain


class Asked(msgspec.Struct, frozen=True):
    """A question under way: records ``wanted`` of ``ledger``, to fill a gap or to ``repair``."""

    ledger: str
    endpoint: str
    wanted: Range
    repair: bool
    until_ns: int


class Fetches:
    """All questions. ``endpoints``: of the instances that run; ``damaged``: of the open ledger too."""

    def __init__(self, copies: Copies, ledgers: Ledgers, peers: Peers, chunk_bytes: int) -> None:
        self.endpoints: dict[str, str] = {}
        self.damaged: dict[str, RangeSet] = {}  # ledger → record numbers that cannot be read here
        self.open_record: LedgerRecord | None = None
        self._copies = copies
        self._ledgers = ledgers
        self._peers = peers
        self._chunk_bytes = chunk_bytes
        self._asked: dict[int, Asked] = {}
        self._damaged_ns: dict[str, int] = {}  # ledger → since when something of it cannot be read
        self._now_ns = 0
        self._numbers = 0
        self._tried: dict[str, list[str]] = {}  # ledger → endpoints that did not help
        self._rest_ns: dict[str, int] = {}  # ledger → not before
        self._lacking: dict[str, set[str]] = {}  # ledger → endpoints that cannot repair what is damaged here
        for copy in copies:
            if len(copy.damaged):
                self.damaged[copy.ledger] = copy.damaged

    # -- damage --------------------------------------------------------------------------------------------------------

    def scrubbed(self, ledger: str, damaged: Sequence[Range], now_ns: int) -> None:
        """These record numbers of a ledger cannot be read here; all others can."""
        self._now_ns = now_ns
        found = RangeSet(damaged)
        if (copy := self._copies.get(ledger)) is not None:
            copy.damaged = found
        if len(found):
            self.damaged[ledger] = found
            self._damaged_ns.setdefault(ledger, now_ns)
        else:
            self.damaged.pop(ledger, None)
            self._damaged_ns.pop(ledger, None)
            self._lacking.pop(ledger, None)

    def repairable(self, ledger: str) -> bool:
        """Whether somebody else may have what cannot be read of this ledger here."""
        record = self._record(ledger)
        others = self._holders(record) if record is not None else []
        if self._now_ns - self._damaged_ns.get(ledger, self._now_ns) > REPAIR_NS:
            return False
        return any(self.endpoints.get(each, each) not in self._lacking.get(ledger, ()) for each in others)

    def _record(self, ledger: str) -> LedgerRecord | None:
        if self.open_record is not None and self.open_record.id == ledger:
            return self.open_record
        copy = self._copies.get(ledger)
        return copy.record if copy is not None else None

    def _holders(self, record: LedgerRecord) -> list[str]:
        me = self._copies.me
        others = {member.instance for member in record.members} | {record.dispatcher, record.writer.instance}
        return sorted(others - {me.instance if me is not None else ""})

    # -- asking --------------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Ask for what is missing; questions that got no answer are asked elsewhere."""
        self._now_ns = now_ns
        for request, asked in list(self._asked.items()):
            if now_ns > asked.until_ns:
                del self._asked[request]
                self._tried.setdefault(asked.ledger, []).append(asked.endpoint)
        self.advance(now_ns)

    def advance(self, now_ns: int) -> None:
        """Ask for what is missing, as far as that may be done at once."""
        busy = {asked.ledger for asked in self._asked.values()}
        for copy in self._copies:
            if copy.ledger not in busy and self._copies.me is not None and not copy.flying:
                missing = copy.missing(self._copies.me)
                if missing is not None and not (copy.refusing and now_ns < copy.retry_ns):
                    self._ask(copy.ledger, missing, now_ns, repair=False)
                    busy.add(copy.ledger)
        for ledger, damaged in sorted(self.damaged.items(), key=itemgetter(0)):
            if ledger not in busy and len(damaged):
                self._ask(ledger, next(iter(damaged)), now_ns, repair=True)

    def _ask(self, ledger: str, wanted: Range, now_ns: int, *, repair: bool) -> None:
        record = self._record(ledger)
        if record is None or len(self._asked) >= AT_ONCE or now_ns < self._rest_ns.get(ledger, 0):
            return
        tried = self._tried.setdefault(ledger, [])
        running = [self.endpoints[each] for each in self._holders(record) if each in self.endpoints]
        left = [endpoint for endpoint in running if endpoint not in tried]
        if not left:
            self._rest_ns[ledger] = now_ns + AGAIN_NS
            tried.clear()
            return
        self._peers.dial(left[0], now_ns)
        self._numbers += 1
        self._asked[self._numbers] = Asked(ledger, left[0], wanted, repair, now_ns + ANSWER_NS)
        if self._peers.ready(left[0]):
            self._peers.send(left[0], p.Fetch(self._numbers, ledger, wanted[0], self._chunk_bytes))

    def welcomed(self, endpoint: str) -> None:
        """A session stands: what was asked before it did is asked now."""
        for request, asked in self._asked.items():
            if asked.endpoint == endpoint:
                self._peers.send(endpoint, p.Fetch(request, asked.ledger, asked.wanted[0], self._chunk_bytes))

    def endpoints_in_use(self) -> set[str]:
        """Where questions are under way."""
        return {asked.endpoint for asked in self._asked.values()}

    # -- answers -------------------------------------------------------------------------------------------------------

    def fetched(self, endpoint: str, answer: p.Fetched, frames: Sequence[Buffer], now_ns: int) -> None:
        """Records from another holder; raises :class:`ProtocolError` if they are not what their writer made."""
        asked = self._asked.get(answer.request)
        if asked is None or asked.endpoint != endpoint:
            return
        del self._asked[answer.request]
        start, end = asked.wanted
        copy = self._copies.get(asked.ledger)
        seed = copy.seed if copy is not None else ledger_seed(asked.ledger)
        records = [record for record in proven(frames, seed, start) if record.number < end]
        helped = self._repair(asked, records, answer) if asked.repair else self._fill(copy, records, start)
        if helped:
            self._tried.pop(asked.ledger, None)
        else:
            self._tried.setdefault(asked.ledger, []).append(endpoint)
        self.advance(now_ns)

    def refused(self, endpoint: str, answer: p.Refused) -> None:
        """A holder could not answer."""
        asked = self._asked.get(answer.request)
        if asked is not None and asked.endpoint == endpoint:
            del self._asked[answer.request]
            self._tried.setdefault(asked.ledger, []).append(endpoint)

    def _fill(self, copy: Copy | None, records: list[Record], start: int) -> bool:
        if copy is None or not records or records[0].number != start:
            return False
        for record in records:
            if not copy.add(record, self._ledgers.effects):
                if record.number:
                    break  # damaged there: ask for the rest again, elsewhere
                copy.begin_run(record, self._ledgers.effects)
        return True

    def _repair(self, asked: Asked, records: list[Record], answer: p.Fetched) -> bool:
        damaged = self.damaged.get(asked.ledger)
        sound = [record for record in records if damaged is not None and record.number in damaged]
        if sound:
            self._ledgers.effects.append(c.Repair(asked.ledger, sound))
            for record in sound:  # until the shell has looked: not to be asked for again
                assert damaged is not None, "sound records are in the place of damaged ones"
                damaged.remove(record.number, record.number + 1)
        elif answer.next_number > asked.wanted[0]:
            self._lacking.setdefault(asked.ledger, set()).add(asked.endpoint)
        return bool(sound)
