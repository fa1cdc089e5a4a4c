"""What other instances fetch from this one: records of the ledgers it holds, read from its disk."""

from __future__ import annotations

from fedbus.broker import copy_effects as c
from fedbus.broker import protocol as p
from fedbus.broker.copies import Copies
from fedbus.broker.effects import Send
from fedbus.broker.ledger import Ledgers
from fedbus.broker.record import Record, ledger_seed

MOST_BYTES = 4 * 1024 * 1024


class FetchSource:
    """All reads under way, ``most`` at once."""

    def __init__(self, copies: Copies, ledgers: Ledgers, most: int) -> None:
        self._copies = copies
        self._ledgers = ledgers
        self._most = most
        self._tokens = 0
        self._reading: dict[int, tuple[bytes, p.Fetch]] = {}

    def fetch(self, session: bytes, fetch: p.Fetch) -> None:
        """Read what is asked for; what cannot be read now is answered with nothing."""
        here = fetch.ledger == self._ledgers.current or self._copies.get(fetch.ledger) is not None
        if not here or len(self._reading) >= self._most:
            self._answer(session, fetch, [], fetch.number)
            return
        self._tokens += 1
        self._reading[self._tokens] = (session, fetch)
        most_bytes = max(1, min(fetch.max_bytes, MOST_BYTES))
        self._ledgers.effects.append(c.ReadRaw(self._tokens, fetch.ledger, max(0, fetch.number), most_bytes))

    def read(self, answer: c.RawRecords) -> None:
        """What was read goes to who asked."""
        if (asked := self._reading.pop(answer.token, None)) is not None:
            self._answer(*asked, answer.records, answer.next_number)

    def _answer(self, session: bytes, fetch: p.Fetch, records: list[Record], next_number: int) -> None:
        seed = ledger_seed(fetch.ledger)
        frames = tuple(frame for record in records for frame in record.buffers(seed))
        fetched = p.Fetched(fetch.request, fetch.ledger, fetch.number, next_number)
        self._ledgers.effects.append(Send(session, fetched, frames))
