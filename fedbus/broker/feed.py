"""Where a subscription's batches come from: the tail in memory, else a read of the ledger's files.

One read at a time and at most one chunk in memory per feed, so that a thousand subscribers catching up cost a bounded amount.
"""

from __future__ import annotations

from collections import deque

from fedbus.broker.effects import Read, Records
from fedbus.broker.ledger import Ledgers
from fedbus.broker.stored import Stored


class Feeds:
    """Gives out read tokens and takes the answers back to the feed that asked."""

    def __init__(self, ledgers: Ledgers, read_chunk_bytes: int, most: int) -> None:
        self.ledgers = ledgers
        self._read_chunk_bytes = read_chunk_bytes
        self._most = most
        self._tokens = 0
        self._waiting: dict[int, Feed] = {}
        self.damaged_events = 0

    def request(self, feed: Feed, ledger: str, offset: int) -> bool:
        """Ask for a chunk, unless too many reads are under way."""
        if len(self._waiting) >= self._most:
            return False
        self._tokens += 1
        self._waiting[self._tokens] = feed
        self.ledgers.effects.append(Read(self._tokens, ledger, offset, self._read_chunk_bytes))
        return True

    def answered(self, answer: Records) -> Feed | None:
        """The feed that asked, now holding the chunk."""
        feed = self._waiting.pop(answer.token, None)
        self.damaged_events += answer.damaged
        if feed is not None:
            feed.take(answer)
        return feed


class Feed:
    """One subscription's access to batches by (ledger, offset): the tail, or the chunk ``[_start, _end)`` read last."""

    __slots__ = ("_chunk", "_end", "_feeds", "_ledger", "_reading", "_start")

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self._chunk: deque[Stored] = deque()
        self._ledger = ""
        self._start = self._end = 0
        self._reading = False

    def at(self, ledger: str, offset: int) -> Stored | None:
        """The batch with that offset, or where that one is damaged the next readable one; ``None``: not here yet.

        To be asked only for offsets below the ledger's confirmed end. After ``None`` see :meth:`blank_until`.
        """
        stored = self._feeds.ledgers.find(ledger, offset)
        if stored is not None:
            return stored
        if self._covers(ledger, offset):
            while self._chunk and self._chunk[0].next_offset <= offset:
                self._chunk.popleft()
            if self._chunk:
                return self._chunk[0]
        elif not self._reading and self._feeds.request(self, ledger, offset):
            self._reading = True
            self._ledger, self._start, self._end = ledger, offset, offset
            self._chunk.clear()
        return None

    def blank_until(self, ledger: str, offset: int) -> int:
        """Up to where nothing can be read (damage); ``offset`` itself when a read is still to answer that."""
        return self._end if self._covers(ledger, offset) and not self._chunk else offset

    def _covers(self, ledger: str, offset: int) -> bool:
        return self._ledger == ledger and self._start <= offset < self._end

    def take(self, answer: Records) -> None:
        """The chunk asked for has come."""
        self._reading = False
        self._chunk = deque(Stored(self._ledger, record) for record in answer.records)
        self._end = answer.next_offset
