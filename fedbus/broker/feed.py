"""Where a subscription's batches come from: the tail in memory, else a read of the ledger's files.

One read at a time and at most one chunk in memory per feed, so that a thousand subscribers catching up cost a bounded
amount. Reads beyond the bound wait for their turn in the order in which they were asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable

from fedbus.broker.effects import Read, Records
from fedbus.broker.ledger import Ledgers
from fedbus.broker.protocol import POSSIBLE_DUPLICATE
from fedbus.broker.record import Record
from fedbus.broker.stored import Stored

RETRY_TICKS = 25  # a read that brought nothing on is tried again after so many ticks


class Feeds:
    """Gives out read tokens and takes the answers back to the feed that asked. ``ticks``: how much time has passed."""

    def __init__(self, ledgers: Ledgers, read_chunk_bytes: int, most: int) -> None:
        self.ledgers = ledgers
        self.damaged_events = 0
        self.repairable: Callable[[str], bool] = lambda _ledger: (
            False
        )  # whether another holder may have what is damaged
        self.ticks = 0
        self._read_chunk_bytes = read_chunk_bytes
        self._most = most
        self._tokens = 0
        self._reading: dict[int, Feed] = {}
        self._queue: deque[Feed] = deque()

    def request(self, feed: Feed) -> None:
        """Read what the feed wants, now or when it is its turn."""
        self._queue.append(feed)
        self._start_reads()

    def _start_reads(self) -> None:
        while self._queue and len(self._reading) < self._most:
            feed = self._queue.popleft()
            self._tokens += 1
            self._reading[self._tokens] = feed
            self.ledgers.effects.append(Read(self._tokens, *feed.wants, self._read_chunk_bytes))

    def answered(self, answer: Records) -> Feed | None:
        """The feed that asked, now holding the chunk."""
        feed = self._reading.pop(answer.token, None)
        wait = bool(answer.damaged) and feed is not None and self.repairable(feed.wants[0])
        self.damaged_events += 0 if wait else answer.damaged
        if feed is not None:
            feed.take(answer, wait=wait)
        self._start_reads()
        return feed


class Feed:
    """One subscription's access to batches by (ledger, offset): the tail, or the chunk ``[_start, _end)`` read last.

    ``link``: as links see it, which take what waits for a second region there.
    """

    __slots__ = (
        "_chunk", "_end", "_ends", "_feeds", "_ledger", "_link", "_not_before_tick", "_open", "_reading", "_start",
    )  # fmt: skip

    def __init__(self, feeds: Feeds, *, link: bool = False) -> None:
        self._feeds = feeds
        self._link = link
        self._chunk: list[Stored] = []
        self._ends: list[int] = []  # of each batch in the chunk
        self._ledger = ""
        self._start = self._end = 0
        self._open: Stored | None = None
        self._reading = False
        self._not_before_tick = 0

    @property
    def wants(self) -> tuple[str, int]:
        """Ledger and offset of the read it waits for."""
        return self._ledger, self._start

    def at(self, ledger: str, offset: int, *, withheld: bool = False) -> Stored | None:
        """The batch with that offset, or where that one is damaged the next readable one; ``None``: not here yet.

        To be asked only for offsets below the ledger's confirmed end. After ``None`` see :meth:`blank_until`. A
        hidden batch is not here yet, unless ``withheld``; a void one is as if damaged.
        """
        hidden = self._feeds.ledgers.hidden
        if not hidden.matters:
            return self._find(ledger, offset)
        if hidden.void.until(ledger, offset) > offset or (not withheld and self._hides(ledger, offset)):
            return None
        stored = self._find(ledger, offset)
        if stored is not None and hidden.uncertain.holds(ledger, stored.first_offset):
            stored.flags |= POSSIBLE_DUPLICATE
        if stored is None or stored.first_offset <= offset:
            return stored
        at = stored.first_offset  # what is between is damaged
        return None if hidden.void.until(ledger, at) > at or self._hides(ledger, at) else stored

    def _hides(self, ledger: str, offset: int) -> bool:
        return bool(self._feeds.ledgers.hidden.until(ledger, offset, link=self._link))

    def _find(self, ledger: str, offset: int) -> Stored | None:
        stored = self._feeds.ledgers.find(ledger, offset)
        if stored is not None:
            return stored
        if self._covers(ledger, offset):
            place = bisect_right(self._ends, offset)
            return self._opened(self._chunk[place]) if place < len(self._chunk) else None
        if not self._reading and self._feeds.ticks >= self._not_before_tick:
            self._reading = True
            self._ledger, self._start, self._end = ledger, offset, offset
            self._chunk, self._ends = [], []
            self._feeds.request(self)
        return None

    def blank_until(self, ledger: str, offset: int) -> int:
        """Up to where nothing can be read (damage); ``offset`` itself when a read is still to answer that."""
        hidden = self._feeds.ledgers.hidden
        if hidden.matters:
            if (void := hidden.void.until(ledger, offset)) > offset:
                return void
            if self._hides(ledger, offset):
                return offset
            if self._covers(ledger, offset) and (place := bisect_right(self._ends, offset)) < len(self._chunk):
                return max(offset, self._chunk[place].first_offset)  # a hidden one; what is before it is damaged
        blank = self._covers(ledger, offset) and (not self._ends or self._ends[-1] <= offset)
        return self._end if blank else offset

    def _opened(self, stored: Stored) -> Stored:
        """A chunk holds one decompressed batch at a time: whatever is declared, memory stays bounded."""
        if self._open is not None and self._open is not stored:
            self._open.batch.close()
        self._open = stored
        return stored

    def _covers(self, ledger: str, offset: int) -> bool:
        return self._ledger == ledger and self._start <= offset < self._end

    def take(self, answer: Records, *, wait: bool) -> None:
        """The chunk asked for has come; if it brings nothing on (unreadable files), the next try is not at once.

        With ``wait`` only what is before the first damage is taken: it is being repaired.
        """
        self._reading = False
        records, self._end = answer.records, answer.next_offset
        if wait:
            records, self._end = _before_damage(records, self._start)
        self._chunk = [Stored(self._ledger, record) for record in records]
        self._ends = [stored.next_offset for stored in self._chunk]
        if self._end <= self._start:
            self._not_before_tick = self._feeds.ticks + RETRY_TICKS


def _before_damage(records: list[Record], start: int) -> tuple[list[Record], int]:
    """The records from ``start`` on up to the first offset that is missing, and where that is."""
    sound: list[Record] = []
    for record in records:
        if record.first_offset > start:
            break
        sound.append(record)
        start = record.next_offset
    return sound, start
